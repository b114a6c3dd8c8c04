import { createHash } from 'node:crypto';
import http from 'node:http';
import type { AddressInfo } from 'node:net';

import { App } from '../src/app';
import { readSettings } from '../src/settings';

const LISTINGS = [{ id: 1, title: 'Intel NUC', price_cents: 12300, discount_percent: 0 }];

/** An API that answers what the page needs; `/api/slow` waits until released. */
class FakeApi {
  seen: string[] = [];
  release: () => void = () => undefined;
  readonly slow = new Promise<void>((resolve) => (this.release = resolve));
  readonly server = http.createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    this.seen.push(`${request.method} ${request.url} ${Buffer.concat(chunks)}`);
    if (request.url === '/api/slow') await this.slow;
    if (request.url === '/api/broken') return response.writeHead(500).end('{}');
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify(request.url?.startsWith('/api/listings') ? LISTINGS : { status: 'healthy' }));
  });
}

interface Answer {
  status: number | undefined;
  headers: http.IncomingHttpHeaders;
  body: string;
}

function ask(port: number, path: string, options: http.RequestOptions = {}, body = ''): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = http.request({ port, path, ...options }, async (response) => {
      let text = '';
      for await (const chunk of response) text += chunk;
      resolve({ status: response.statusCode, headers: response.headers, body: text });
    });
    request.on('error', reject).end(body);
  });
}

async function listen(server: http.Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}

let api: FakeApi;
let app: App;
let port: number;

beforeEach(async () => {
  api = new FakeApi();
  const apiPort = await listen(api.server);
  app = new App(
    readSettings({ API_URL: `http://127.0.0.1:${apiPort}`, RELEASE_VERSION: '1.2.3', DRAIN_NOTICE_MS: '0', DRAIN_MS: '5000' }),
  );
  port = await listen(app.server);
});

afterEach(async () => {
  api.release();
  await app.drain();
  api.server.closeAllConnections();
  api.server.close();
});

test('the front page lists what the API has', async () => {
  const answer = await ask(port, '/');
  expect(answer.status).toBe(200);
  expect(answer.body).toContain('Intel NUC');
});

test('the front page says so when the API is away', async () => {
  api.server.closeAllConnections();
  api.server.close();
  jest.spyOn(console, 'error').mockImplementation(() => undefined);
  expect((await ask(port, '/')).status).toBe(502);
});

test('healthz tells version and API', async () => {
  const answer = await ask(port, '/healthz');
  expect(answer.status).toBe(200);
  expect(JSON.parse(answer.body)).toEqual({ status: 'healthy', version: '1.2.3', api: 'connected' });
});

test('healthz is 503 without the API', async () => {
  api.server.closeAllConnections();
  api.server.close();
  const answer = await ask(port, '/healthz');
  expect(answer.status).toBe(503);
  expect(JSON.parse(answer.body).api).toBe('disconnected');
});

test('every answer says which release gave it', async () => {
  for (const path of ['/', '/healthz', '/nothing']) {
    expect((await ask(port, path)).headers['x-release-version']).toBe('1.2.3');
  }
});

test('every answer tells browsers to be careful', async () => {
  for (const path of ['/', '/healthz', '/nothing', '/api/listings']) {
    const { headers } = await ask(port, path);
    expect(headers['content-security-policy']).toContain("frame-ancestors 'none'");
    expect(headers['x-content-type-options']).toBe('nosniff');
    expect(headers['referrer-policy']).toBe('no-referrer');
    expect(headers['strict-transport-security']).toContain('max-age=31536000');
  }
});

test("the page's own script is the one that may run", async () => {
  const { headers, body } = await ask(port, '/');
  const scripts = [...body.matchAll(/<script>([^]*?)<\/script>/g)].map(([, text]) => text ?? '');
  expect(scripts).toHaveLength(1);
  for (const text of scripts) {
    const hash = createHash('sha256').update(text).digest('base64');
    expect(headers['content-security-policy']).toContain(`script-src 'sha256-${hash}'`);
  }
});

test('what is private is not here', async () => {
  for (const path of ['/metrics', '/docs', '/openapi.json', '/.env']) expect((await ask(port, path)).status).toBe(404);
});

test('a write goes through to the API once, with its body', async () => {
  await ask(port, '/api/listings', { method: 'POST' }, '{"title":"x"}');
  expect(api.seen).toEqual(['POST /api/listings {"title":"x"}']);
});

test("the API's own errors go through unchanged", async () => {
  expect((await ask(port, '/api/broken')).status).toBe(500);
});

test('reading survives a kept connection that the API has closed', async () => {
  await ask(port, '/');
  api.server.closeAllConnections();
  expect((await ask(port, '/')).status).toBe(200);
});

test('draining finishes what is in flight and accepts nothing new', async () => {
  const slow = ask(port, '/api/slow');
  while (api.seen.length === 0) await new Promise(setImmediate);
  const drained = app.drain();
  while (app.server.listening) await new Promise(setImmediate);
  await expect(ask(port, '/')).rejects.toThrow();
  api.release();
  expect((await slow).status).toBe(200);
  await drained;
});

test('a server that is leaving asks clients not to keep the connection', async () => {
  const agent = new http.Agent({ keepAlive: true });
  expect((await ask(port, '/healthz', { agent })).headers.connection).toBe('keep-alive');
  const slow = ask(port, '/api/slow', { agent });
  while (!api.seen.some((line) => line.includes('slow'))) await new Promise(setImmediate);
  const drained = app.drain();
  api.release();
  expect((await slow).headers.connection).toBe('close');
  await drained;
  agent.destroy();
});

test('a port that is no number is refused', () => {
  expect(() => readSettings({ PORT: 'http' })).toThrow('PORT is "http", expected a whole number');
});

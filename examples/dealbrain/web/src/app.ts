import http, { type IncomingMessage, type ServerResponse } from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';

import { SAFE_HEADERS } from './headers';
import { renderPage, type Listing } from './page';
import type { Settings } from './settings';
import { Upstream } from './upstream';

// More than the API's own patience with its database, less than whoever asks us waits.
const HEALTH_WITHIN_MS = 4500;

/** The HTTP server and the way it leaves. */
export class App {
  readonly server: http.Server;
  private readonly upstream: Upstream;
  private readonly inFlight = new Set<ServerResponse>();
  private leaving = false;

  constructor(private readonly settings: Settings) {
    this.upstream = new Upstream(settings.apiUrl);
    this.server = http.createServer((request, response) => void this.answer(request, response));
    this.server.keepAliveTimeout = 75_000;
    this.server.headersTimeout = 80_000;
  }

  /**
   * Leaves: at first it still accepts and answers `Connection: close`, so that nobody
   * keeps a connection that is about to go; then it accepts no more and finishes what is
   * in flight, for `drainMs` at most.
   */
  async drain(): Promise<void> {
    if (this.leaving) return;
    this.leaving = true;
    for (const response of this.inFlight) lastOnItsConnection(response);
    await pause(this.settings.drainNoticeMs);
    const closed = new Promise<void>((resolve) => this.server.close(() => resolve()));
    this.server.closeIdleConnections();
    const late = new AbortController();
    await Promise.race([closed, pause(this.settings.drainMs, undefined, { signal: late.signal })]);
    late.abort();
    this.server.closeAllConnections();
    this.upstream.close();
  }

  private async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    this.inFlight.add(response);
    response.setHeader('x-release-version', this.settings.version);
    for (const [name, value] of Object.entries(SAFE_HEADERS)) response.setHeader(name, value);
    response.on('close', () => {
      this.inFlight.delete(response);
      // an answer that had begun before could not say so: its connection is idle now
      if (this.leaving) setImmediate(() => this.server.closeIdleConnections());
    });
    if (this.leaving) lastOnItsConnection(response);
    const path = (request.url ?? '/').split('?', 1)[0] ?? '/';
    if (path.startsWith('/api/')) return this.upstream.proxy(request, response);
    if (request.method !== 'GET' && request.method !== 'HEAD') return reply(response, 405, 'text/plain', 'GET only\n');
    if (path === '/') return this.page(response);
    if (path === '/healthz') return this.health(response);
    reply(response, 404, 'text/plain', 'there is nothing here\n');
  }

  private async page(response: ServerResponse): Promise<void> {
    try {
      const listings = await this.upstream.json<Listing[]>('/api/listings?limit=20');
      reply(response, 200, 'text/html; charset=utf-8', renderPage(listings, this.settings.version));
    } catch (error) {
      console.error('the page failed:', error);
      reply(response, 502, 'text/plain', 'the listings are not to be had just now\n');
    }
  }

  private async health(response: ServerResponse): Promise<void> {
    const connected = await this.upstream.json('/health', HEALTH_WITHIN_MS).then(
      () => true,
      () => false,
    );
    const report = {
      status: connected ? 'healthy' : 'unhealthy',
      version: this.settings.version,
      api: connected ? 'connected' : 'disconnected',
    };
    reply(response, connected ? 200 : 503, 'application/json', JSON.stringify(report));
  }
}

function lastOnItsConnection(response: ServerResponse): void {
  if (!response.headersSent) response.setHeader('connection', 'close');
}

function reply(response: ServerResponse, status: number, type: string, body: string): void {
  response.writeHead(status, {
    'content-type': type,
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
  });
  response.end(body);
}

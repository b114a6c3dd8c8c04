import http, { type IncomingMessage, type OutgoingHttpHeaders, type ServerResponse } from 'node:http';

const ANSWER_WITHIN_MS = 30_000;

/** Headers that belong to one connection and are not passed on (RFC 9110, 7.6.1). */
const HOP_BY_HOP = ['connection', 'keep-alive', 'proxy-connection', 'te', 'trailer', 'transfer-encoding', 'upgrade'];

export function endToEnd(headers: OutgoingHttpHeaders): OutgoingHttpHeaders {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !HOP_BY_HOP.includes(name)));
}

/** The API, behind connections that are kept. */
export class Upstream {
  /** Idle connections go before the API's own 75 s are over, never the other way round. */
  private readonly agent = new http.Agent({ keepAlive: true, maxSockets: 64, timeout: 20_000 });

  constructor(private readonly url: URL) {}

  close(): void {
    this.agent.destroy();
  }

  /** The body of a JSON answer. Throws when there is none, or none with status 200. */
  async json<T>(path: string, withinMs = ANSWER_WITHIN_MS): Promise<T> {
    const answer = await this.get(path, {}, withinMs);
    const chunks: Buffer[] = [];
    for await (const chunk of answer) chunks.push(chunk as Buffer);
    if (answer.statusCode !== 200) throw new Error(`the API answered ${answer.statusCode} to ${path}`);
    return JSON.parse(Buffer.concat(chunks).toString()) as T;
  }

  /** Passes a request on and streams the answer back; 502 when the API gives none. */
  async proxy(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = request.url ?? '/';
    const headers = {
      ...endToEnd(request.headers),
      'x-forwarded-for': request.headers['x-forwarded-for'] ?? request.socket.remoteAddress,
    };
    try {
      const answer =
        request.method === 'GET' || request.method === 'HEAD'
          ? await this.get(path, headers, ANSWER_WITHIN_MS, request.method)
          : await this.send(request, path, headers);
      response.writeHead(answer.statusCode ?? 502, endToEnd(answer.headers));
      answer.on('error', () => response.destroy());
      response.on('close', () => answer.destroy());
      answer.pipe(response);
    } catch {
      if (response.headersSent) response.destroy();
      else response.writeHead(502, { 'content-type': 'application/json' }).end('{"detail":"the API does not answer"}');
    }
  }

  /**
   * Reading may be repeated: once, on a new connection, for a kept one may belong to a
   * replica that has just left.
   */
  private async get(path: string, headers: OutgoingHttpHeaders, withinMs: number, method = 'GET') {
    try {
      return await this.ask({ path, headers, method, agent: this.agent }, withinMs);
    } catch {
      return await this.ask({ path, headers, method, agent: false }, withinMs);
    }
  }

  private send(request: IncomingMessage, path: string, headers: OutgoingHttpHeaders): Promise<IncomingMessage> {
    const options = { path, headers, method: request.method, agent: this.agent };
    return this.ask(options, ANSWER_WITHIN_MS, request);
  }

  private ask(options: http.RequestOptions, withinMs: number, body?: IncomingMessage): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const { hostname, port } = this.url;
      const outgoing = http.request({ ...options, hostname, port });
      const timer = setTimeout(() => outgoing.destroy(new Error('the API took too long')), withinMs);
      outgoing.on('response', (answer) => {
        clearTimeout(timer);
        resolve(answer);
      });
      outgoing.on('error', (error) => {
        clearTimeout(timer);
        reject(error);
      });
      if (body) {
        body.on('error', (error) => outgoing.destroy(error));
        body.pipe(outgoing);
      } else {
        outgoing.end();
      }
    });
  }
}

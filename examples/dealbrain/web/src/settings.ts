/** What the container is told by its environment, read once at start. */
export interface Settings {
  readonly host: string;
  readonly port: number;
  readonly apiUrl: URL;
  readonly version: string;
  /** How long a stopping server still accepts, answering with `Connection: close`. */
  readonly drainNoticeMs: number;
  /** How long requests in flight may take after that. */
  readonly drainMs: number;
}

export function readSettings(variables: NodeJS.ProcessEnv): Settings {
  return {
    host: variables.HOST ?? '0.0.0.0',
    port: wholeNumber(variables, 'PORT', '3000'),
    apiUrl: new URL(variables.API_URL ?? 'http://api:8000'),
    version: variables.RELEASE_VERSION ?? '0.0.0-dev',
    drainNoticeMs: wholeNumber(variables, 'DRAIN_NOTICE_MS', '300'),
    drainMs: wholeNumber(variables, 'DRAIN_MS', '29000'),
  };
}

function wholeNumber(variables: NodeJS.ProcessEnv, name: string, fallback: string): number {
  const text = variables[name] ?? fallback;
  if (!/^\d{1,6}$/.test(text)) {
    throw new Error(`${name} is ${JSON.stringify(text)}, expected a whole number`);
  }
  return Number(text);
}

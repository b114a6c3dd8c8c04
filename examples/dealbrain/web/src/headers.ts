import { createHash } from 'node:crypto';

import { FORM_SCRIPT } from './form';

const SCRIPT = createHash('sha256').update(FORM_SCRIPT).digest('base64');

/**
 * What every answer tells browsers. The page's own script is named by its hash, so no other one runs; browsers pass over the
 * last one unless they came by https.
 */
export const SAFE_HEADERS: Readonly<Record<string, string>> = {
  'content-security-policy': [
    "default-src 'none'",
    `script-src 'sha256-${SCRIPT}'`,
    "style-src 'unsafe-inline'",
    "img-src 'self'",
    "connect-src 'self'",
    "form-action 'self'",
    "base-uri 'none'",
    "frame-ancestors 'none'",
  ].join('; '),
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'strict-transport-security': 'max-age=31536000; includeSubDomains',
};

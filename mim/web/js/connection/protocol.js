/* The numbers and words of the wire (proto/frames.md, proto/codes.md), and the HTTP side of signing in. */

export const OP = Object.freeze({
  HELLO: 1, SEND: 2, READ: 3, TYPING: 4, RECV: 5, FETCH: 6, CALL: 7, PING: 8, CHANGES: 9,
  READY: 16, ACK: 17, MSG: 18, CHANGE: 19, READBY: 20, RESULT: 21, ERROR: 22, USER_TYPING: 23,
  CHAT: 24, SYNCED: 25, BYE: 26, PONG: 27, NOTE: 28, NACK: 29,
});

export const APP_VERSION = '0.1.0';

/* What a close means for the client (proto/codes.md#close). Anything that is not listed: come back. */
export const ENDS = Object.freeze({
  4500: 'expired', 4501: 'replaced', 4502: 'signed_out', 4503: 'broken', 4506: 'update', 1002: 'broken', 1007: 'broken',
});

/** A request that the server refused, or that could not be asked; `code` is a word of proto/codes.md#errors. */
export class Refused extends Error {
  constructor(code, detail = '', retryAfter = null) {
    super(detail || code);
    this.code = code;
    this.retryAfter = retryAfter; // ms
  }
}

/** POST one of /v1/auth/...; Refused `offline` when nobody answers. */
export async function post(path, params) {
  let answer;
  try {
    answer = await fetch(path, {
      method: 'POST', body: JSON.stringify(params), headers: { 'Content-Type': 'application/json' },
      signal: AbortSignal.timeout(15000), credentials: 'omit', cache: 'no-store',
    });
  } catch {
    throw new Refused('offline');
  }
  const value = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(value.code ?? 'internal', value.detail, value.retry_after ?? null);
  return value;
}

export const socketUrl = () => `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/v1/ws`;

export const sleep = (ms) => new Promise((wake) => { setTimeout(wake, ms); });

import { messageOf, NetworkError, type PeftErrorOptions } from "../errors.js";
import type { HubSettings } from "./hub-environment.js";

/** News of a transfer: bytes of one file so far, or a line to show. */
export type Progress =
  | { readonly kind: "file"; readonly file: string; readonly loaded: number; readonly total: number }
  | { readonly kind: "note"; readonly text: string };

/** What requests to the hub need; nothing is taken from the process. */
export interface HubConnection {
  readonly settings: HubSettings;
  readonly fetch: typeof fetch;
  /** Waits, milliseconds; tests pass one that does not. */
  readonly sleep: (ms: number) => Promise<void>;
  readonly signal: AbortSignal | undefined;
  readonly onProgress: ((progress: Progress) => void) | undefined;
}

/** What a request is about, for messages. */
export interface Subject {
  /** "the model org/name" */
  readonly label: string;
  readonly id: string;
  readonly revision: string;
}

/** No answer from the hub (no route, no name, time-out, 5xx, not a hub), as opposed to an answer that says no: what is cached, or a fallback, may serve. */
export class UnreachableError extends NetworkError {
  constructor(message: string, options: PeftErrorOptions = {}) {
    super(message, { hint: "check the network connection; behind a mirror set HF_ENDPOINT; or give a local folder", ...options });
  }
}

const attempts = 3;

/**
 * One GET with retries for passing faults (reset connection, 429, 5xx); follows redirects itself, so that the token goes to the endpoint's
 * origin and nowhere else. 416 is returned, like success, to the caller.
 * Throws UnreachableError at once where there is no route, and NetworkError for a refusal, told apart by the hub's `X-Error-Code`.
 */
export async function hubGet(c: HubConnection, url: string, subject: Subject, headers: Record<string, string> = {}): Promise<Response> {
  for (let attempt = 1; ; attempt++) {
    let failure: NetworkError;
    try {
      const response = await follow(c, url, headers);
      if (response.ok || response.status === 416) return response;
      await response.body?.cancel();
      failure = refusal(response, c.settings, subject);
      if (response.status !== 429 && response.status < 500) throw failure;
    } catch (error) {
      if (error instanceof NetworkError) throw error;
      c.signal?.throwIfAborted();
      failure = unreachable(error, url);
      if (hasNoRoute(error)) throw failure;
    }
    if (attempt === attempts) throw failure;
    await c.sleep(500 * 2 ** (attempt - 1));
  }
}

/** The same for the API's short answers: the body is read within the time limit too. Fits where the hub library wants a `fetch`. */
export function apiFetch(c: HubConnection, subject: Subject): typeof fetch {
  return async (input) => {
    const url = input instanceof Request ? input.url : String(input);
    const response = await hubGet(c, url, subject, { accept: "application/json" });
    const text = await within(c.settings.stallTimeout, response.text()).catch((error: unknown) => {
      c.signal?.throwIfAborted();
      throw unreachable(error, url);
    });
    return new Response(text, { status: response.status, headers: response.headers });
  };
}

/** UnreachableError for what `fetch` threw, naming host and cause. */
export function unreachable(error: unknown, url: string): UnreachableError {
  const code = codes(error)[0];
  const reason = code ?? messageOf(error);
  const certificate = code !== undefined && /CERT|SIGNATURE/.test(code);
  return new UnreachableError(`cannot reach ${new URL(url).origin} (${reason})`, {
    cause: error,
    ...(certificate && { hint: "the connection's certificate is not trusted: name your company's with NODE_EXTRA_CA_CERTS=file.pem" }),
  });
}

/** Rejects with a TimeoutError when `work` takes longer than `ms`. */
export async function within<T>(ms: number, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new DOMException(`no data for ${ms / 1000} s`, "TimeoutError")), ms);
  });
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
}

async function follow(c: HubConnection, start: string, headers: Record<string, string>): Promise<Response> {
  const home = new URL(c.settings.endpoint).origin;
  let url = new URL(start);
  for (let hop = 0; hop < 6; hop++) {
    const response = await answer(c, url, {
      ...headers,
      ...(c.settings.token !== undefined && url.origin === home && { authorization: `Bearer ${c.settings.token}` }),
    });
    const location = response.headers.get("location");
    if (response.status < 300 || response.status >= 400 || location === null) return response;
    await response.body?.cancel();
    url = new URL(location, url);
  }
  throw new NetworkError(`too many redirects from ${start}`);
}

/** Fetches until the headers are there. Its own timer, since `fetch` has none for connecting that can be set. */
async function answer(c: HubConnection, url: URL, headers: Record<string, string>): Promise<Response> {
  const limit = new AbortController();
  const timer = setTimeout(() => limit.abort(new DOMException("no answer in time", "TimeoutError")), c.settings.answerTimeout);
  const signal = c.signal === undefined ? limit.signal : AbortSignal.any([c.signal, limit.signal]);
  try {
    return await c.fetch(url, { headers, redirect: "manual", signal });
  } finally {
    clearTimeout(timer);
  }
}

function refusal(response: Response, settings: HubSettings, subject: Subject): NetworkError {
  const { label, id, revision } = subject;
  const code = response.headers.get("x-error-code");
  const authorised = settings.token !== undefined;
  switch (true) {
    case code === "GatedRepo":
      return new NetworkError(`${label} is gated: its owner asks for consent first`, {
        hint: `accept its conditions at ${settings.endpoint}/${id}, then set HF_TOKEN to a token of the same account`,
      });
    case code === "RevisionNotFound":
      return new NetworkError(`${label} has no revision "${revision}"`, {
        hint: "a revision is a branch, a tag or a commit; leave @revision out for main",
      });
    case code === "EntryNotFound":
      return new NetworkError(`${label} has no such file: ${new URL(response.url || settings.endpoint).pathname}`);
    case response.status === 401 || response.status === 403:
      return authorised
        ? new NetworkError(`${settings.endpoint} gives no access to ${label} (${response.status})`, {
            hint: "check the spelling, and that the token in HF_TOKEN is valid and may read this repository",
          })
        : new NetworkError(`${label} does not exist on ${settings.endpoint}, or is private (${response.status})`, {
            hint: "check the spelling; for a private repository set HF_TOKEN",
          });
    case response.status === 404:
      return new NetworkError(`${label} does not exist on ${settings.endpoint} (404)`, {
        hint: authorised ? "check the spelling and the token's rights" : "check the spelling; for a private repository set HF_TOKEN",
      });
    case response.status === 429:
      return new NetworkError(`${settings.endpoint} refuses for now: too many requests (429)`, {
        hint: "wait some minutes, or set HF_TOKEN: the limits of known users are higher",
      });
    case response.status >= 500:
      return new UnreachableError(`${settings.endpoint} fails with status ${response.status}`, { hint: "try again later" });
    default:
      return new NetworkError(`${settings.endpoint} answered ${response.status} for ${label}`);
  }
}

/** Faults that another attempt within seconds will not mend. */
function hasNoRoute(error: unknown): boolean {
  if (error instanceof Error && error.name === "TimeoutError") return true;
  return codes(error).some((code) =>
    /^(ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ENETUNREACH|EHOSTUNREACH|ENETDOWN|UND_ERR_CONNECT_TIMEOUT)$|CERT|SIGNATURE/.test(code),
  );
}

/** All `code`s in an error, its causes and, where several addresses were tried, its parts. */
function codes(error: unknown): string[] {
  if (!(error instanceof Error)) return [];
  const own = "code" in error && typeof error.code === "string" ? [error.code] : [];
  const parts = error instanceof AggregateError ? error.errors.flatMap(codes) : [];
  return [...own, ...parts, ...codes(error.cause)];
}

import { FileError, messageOf, NetworkError } from "../errors.js";
import type { Files } from "../io/files.js";
import { byteRange } from "../io/memory-files.js";

/**
 * Files below a URL, such as a model's folder on a web server. Parts are asked for as HTTP ranges; from a server that ignores ranges or does
 * not say how long a file is, the file is fetched once and kept in memory. Throws NetworkError when the server cannot be reached or refuses, FileError for a
 * missing or shorter file.
 */
export function urlFiles(base: string | URL, fetcher: typeof fetch = fetch): Files {
  const root = new URL(String(base).endsWith("/") ? base : `${base}/`);
  const kept = new Map<string, Uint8Array<ArrayBuffer>>();

  const urlOf = (name: string): URL => {
    const parts = name.split("/");
    if (parts.some((part) => part === "" || part === "." || part === ".."))
      throw new FileError(`${root}: ${JSON.stringify(name)} is not the name of a file below this address`);
    return new URL(parts.map(encodeURIComponent).join("/"), root);
  };
  const ask = async (url: URL, init: RequestInit): Promise<Response> =>
    fetcher(url, init).catch((cause: unknown) => {
      throw unreachable(url, cause);
    });
  const bytesOf = async (url: URL, response: Response): Promise<Uint8Array<ArrayBuffer>> => {
    if (response.status === 404) throw new FileError(`${url}: no such file`);
    if (!response.ok) throw refused(url, response);
    return new Uint8Array(
      await response.arrayBuffer().catch((cause: unknown) => {
        throw unreachable(url, cause);
      }),
    );
  };
  const whole = async (url: URL): Promise<Uint8Array<ArrayBuffer>> => bytesOf(url, await ask(url, {}));

  return {
    origin: root.href.replace(/\/$/, ""),
    async size(name) {
      const url = urlOf(name);
      const response = await ask(url, { method: "HEAD" });
      if (response.status === 404) return undefined;
      const noHead = response.status === 405 || response.status === 501;
      if (!response.ok && !noHead) throw refused(url, response);
      const length = response.headers.get("content-length");
      // With a content encoding the length is that of the encoded bytes.
      if (!noHead && length !== null && !response.headers.has("content-encoding")) return Number(length);
      const bytes = kept.get(name) ?? (await whole(url));
      kept.set(name, bytes);
      return bytes.length;
    },
    async read(name, start = 0, end) {
      if (start === end) return new Uint8Array();
      const url = urlOf(name);
      const known = kept.get(name);
      if (known !== undefined) return cut(url, known, start, end);
      if (start === 0 && end === undefined) return whole(url);
      const response = await ask(url, { headers: { range: `bytes=${start}-${end === undefined ? "" : end - 1}` } });
      if (response.status === 416) throw new FileError(`${url} ends before byte ${start}`);
      const bytes = await bytesOf(url, response);
      if (response.status !== 206) {
        kept.set(name, bytes);
        return cut(url, bytes, start, end);
      }
      if (end !== undefined && bytes.length !== end - start)
        throw new FileError(`${url}: asked for bytes ${start} to ${end}, got ${bytes.length} bytes`);
      return bytes;
    },
  };
}

/** A copy, as callers may hand its buffer on. */
function cut(url: URL, bytes: Uint8Array<ArrayBuffer>, start: number, end: number | undefined): Uint8Array<ArrayBuffer> {
  return bytes.slice(...byteRange(String(url), bytes.length, start, end));
}

function unreachable(url: URL, cause: unknown): NetworkError {
  return new NetworkError(`cannot fetch ${url}: ${messageOf(cause)}`, {
    hint: "is the server up, and does it allow requests from this page (CORS)?",
    cause,
  });
}

function refused(url: URL, { status, statusText }: Response): NetworkError {
  return new NetworkError(`${url} answers ${[status, statusText].join(" ").trim()}`);
}

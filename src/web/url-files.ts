import { FileError, NetworkError } from "../errors.js";
import type { Files } from "../io/files.js";

/** Files below a URL, such as a model's folder on a web server. Ranges are asked for; a server that ignores them is read whole. */
export function urlFiles(base: string | URL, fetcher: typeof fetch = fetch): Files {
  const root = new URL(String(base).endsWith("/") ? base : `${base}/`);
  const get = async (name: string, init: RequestInit): Promise<Response | undefined> => {
    const url = new URL(name, root);
    const response = await fetcher(url, init).catch((cause: unknown) => {
      throw new NetworkError(`cannot fetch ${url}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
    });
    if (response.status === 404) return undefined;
    if (!response.ok) throw new NetworkError(`${url} answers ${response.status} ${response.statusText}`);
    return response;
  };
  return {
    origin: root.href.replace(/\/$/, ""),
    async size(name) {
      const length = (await get(name, { method: "HEAD" }))?.headers.get("content-length");
      return length === undefined || length === null ? undefined : Number(length);
    },
    async read(name, start = 0, end) {
      const partial = start > 0 || end !== undefined;
      const response = await get(name, partial ? { headers: { range: `bytes=${start}-${end === undefined ? "" : end - 1}` } } : {});
      if (response === undefined) throw new FileError(`${new URL(name, root)} does not exist`);
      const bytes = new Uint8Array(await response.arrayBuffer());
      const part = partial && response.status === 200 ? bytes.slice(start, end) : bytes;
      if (end !== undefined && part.length !== end - start) throw new FileError(`${new URL(name, root)} ends before byte ${end}`);
      return part;
    },
  };
}

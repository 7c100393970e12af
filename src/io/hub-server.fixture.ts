import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";

/** A repository that the fixture serves. */
export interface FixtureRepo {
  readonly type: "model" | "dataset";
  readonly id: string;
  readonly files: Readonly<Record<string, string | Uint8Array>>;
  /** Branches and tags to commits; every commit has the same files. `{ main: commit }` by default. */
  readonly revisions?: Readonly<Record<string, string>>;
  /** Only who sends this token may see it. */
  readonly token?: string;
  /** Seen by all, files refused. */
  readonly gated?: boolean;
}

/** One request that came in. */
export interface SeenRequest {
  readonly host: "hub" | "cdn";
  readonly path: string;
  readonly authorization: string | undefined;
  readonly range: string | undefined;
}

/** A hub and its CDN on loopback. */
export interface HubServer {
  /** For `HF_ENDPOINT`. */
  readonly url: string;
  readonly requests: SeenRequest[];
  /** File name to number of bytes after which the connection is closed, once for each entry of the list. */
  readonly cuts: Map<string, number[]>;
  /** Files of which the first byte arrives changed. */
  readonly corrupt: Set<string>;
  /** When set, every request is answered with this status. */
  status: number | undefined;
  /** The files that were asked for, in order. */
  fileRequests(): string[];
  close(): Promise<void>;
}

/** What else the fixture serves. */
export interface HubServerOptions {
  /** Path (`/api/datasets/org/name/parquet`) to a JSON answer; a function gets the server's URL. */
  readonly json?: Readonly<Record<string, unknown | ((url: string) => unknown)>>;
  /** Entries in one page of a tree listing: 1000 by default, as on the hub. */
  readonly pageSize?: number;
}

/** The commit that a fixture repository has when none is named. */
export const fixtureCommit = "0123456789abcdef0123456789abcdef01234567";

/** Starts a server that speaks as much of the hub's protocol as downloading needs; large files (weights, parquet) are redirected to a "CDN" of another origin. */
export async function startHubServer(repos: readonly FixtureRepo[], options: HubServerOptions = {}): Promise<HubServer> {
  const requests: SeenRequest[] = [];
  const cuts = new Map<string, number[]>();
  const corrupt = new Set<string>();
  const see = (host: "hub" | "cdn", request: IncomingMessage): URL => {
    const url = new URL(request.url ?? "/", "http://fixture");
    requests.push({
      host,
      path: decodeURIComponent(url.pathname),
      authorization: request.headers.authorization,
      range: request.headers.range,
    });
    return url;
  };
  const send = (request: IncomingMessage, response: ServerResponse, repo: FixtureRepo, name: string): void => {
    const body = Uint8Array.from(bytesOf(repo, name));
    if (corrupt.has(name) && body.length > 0) body[0] = body[0]! ^ 1;
    const start = Number(/^bytes=(\d+)-/.exec(request.headers.range ?? "")?.[1] ?? 0);
    if (start > 0) response.setHeader("content-range", `bytes ${start}-${body.length - 1}/${body.length}`);
    response.writeHead(start > 0 ? 206 : 200, {
      "content-length": body.length - start,
      "accept-ranges": "bytes",
      etag: `"${etagOf(repo, name)}"`,
    });
    const cut = cuts.get(name)?.shift();
    if (cut === undefined) response.end(body.subarray(start));
    else response.write(body.subarray(start, start + cut), () => response.destroy());
  };

  const cdn = createServer((request, response) => {
    const url = see("cdn", request);
    const repo = repos.find((repo) => repo.id === url.searchParams.get("repo"));
    const name = url.searchParams.get("file");
    if (repo === undefined || name === null) return refuse(response, 404);
    send(request, response, repo, name);
  });
  const cdnUrl = await listen(cdn);

  const hub = createServer((request, response) => {
    const url = see("hub", request);
    const path = decodeURIComponent(url.pathname);
    if (server.status !== undefined) return refuse(response, server.status);
    const extra = options.json?.[path];
    if (extra !== undefined) return json(response, typeof extra === "function" ? extra(server.url) : extra);
    const repo = repos.find(
      (repo) => apiBase(repo) === path || path.startsWith(`${apiBase(repo)}/`) || path.startsWith(`${fileBase(repo)}/resolve/`),
    );
    // As the hub does: who has no token is not told whether the repository exists.
    if (repo === undefined) return refuse(response, request.headers.authorization ? 404 : 401, "RepoNotFound");
    if (repo.token !== undefined && request.headers.authorization !== `Bearer ${repo.token}`) return refuse(response, 401, "RepoNotFound");
    const revisions = repo.revisions ?? { main: fixtureCommit };
    const commitOf = (name: string): string | undefined => (Object.values(revisions).includes(name) ? name : revisions[name]);

    if (path.startsWith(`${apiBase(repo)}/revision/`)) {
      const sha = commitOf(path.slice(`${apiBase(repo)}/revision/`.length));
      return sha === undefined ? refuse(response, 404, "RevisionNotFound") : json(response, { id: repo.id, _id: "1", sha });
    }
    if (path.startsWith(`${apiBase(repo)}/tree/`)) {
      if (commitOf(path.slice(`${apiBase(repo)}/tree/`.length)) === undefined) return refuse(response, 404, "RevisionNotFound");
      const names = Object.keys(repo.files).sort();
      const from = Number(url.searchParams.get("cursor") ?? 0);
      const until = from + (options.pageSize ?? 1000);
      url.searchParams.set("cursor", String(until));
      if (until < names.length) response.setHeader("link", `<${server.url}${url.pathname}${url.search}>; rel="next"`);
      return json(
        response,
        names.slice(from, until).map((name) => treeEntry(repo, name)),
      );
    }
    const cachePrefix = `${apiBase(repo)}/resolve-cache/`;
    if (path.startsWith(cachePrefix)) {
      const [commit = "", ...rest] = path.slice(cachePrefix.length).split("/");
      response.setHeader("x-repo-commit", commit);
      return send(request, response, repo, rest.join("/"));
    }
    if (path.startsWith(`${fileBase(repo)}/resolve/`)) {
      const [revision = "", ...rest] = path.slice(`${fileBase(repo)}/resolve/`.length).split("/");
      const name = rest.join("/");
      if (repo.gated) return refuse(response, 403, "GatedRepo");
      if (commitOf(revision) === undefined) return refuse(response, 404, "RevisionNotFound");
      if (!Object.hasOwn(repo.files, name)) return refuse(response, 404, "EntryNotFound");
      response.setHeader("x-repo-commit", commitOf(revision)!);
      if (!isLarge(name)) {
        // The hub sends small files on to a cached path of its own, by a relative address.
        response
          .writeHead(307, { location: encodeURI(`${cachePrefix}${commitOf(revision)}/${name}`), etag: `"${etagOf(repo, name)}"` })
          .end();
        return;
      }
      const query = new URLSearchParams({ repo: repo.id, file: name });
      response.setHeader("x-linked-etag", `"${etagOf(repo, name)}"`);
      response.setHeader("x-linked-size", bytesOf(repo, name).length);
      response.writeHead(302, { location: `${cdnUrl}/blob?${query}` }).end();
      return;
    }
    refuse(response, 404);
  });

  const server: HubServer = {
    url: await listen(hub),
    requests,
    cuts,
    corrupt,
    status: undefined,
    fileRequests: () => requests.flatMap(({ path }) => /\/resolve\/[^/]+\/(.*)$/.exec(path)?.[1] ?? []),
    close: async () => {
      await Promise.all([close(hub), close(cdn)]);
    },
  };
  return server;
}

function bytesOf(repo: FixtureRepo, name: string): Uint8Array {
  const content = repo.files[name] ?? "";
  return typeof content === "string" ? new TextEncoder().encode(content) : content;
}

function isLarge(name: string): boolean {
  return /\.(safetensors|parquet|bin)$/.test(name);
}

function etagOf(repo: FixtureRepo, name: string): string {
  const body = bytesOf(repo, name);
  if (isLarge(name)) return createHash("sha256").update(body).digest("hex");
  return createHash("sha1").update(`blob ${body.length}\0`).update(body).digest("hex");
}

function treeEntry(repo: FixtureRepo, name: string): unknown {
  const size = bytesOf(repo, name).length;
  const oid = etagOf(repo, name);
  if (!isLarge(name)) return { type: "file", path: name, size, oid };
  return { type: "file", path: name, size, oid: "f".repeat(40), lfs: { oid, size, pointerSize: 134 } };
}

function apiBase(repo: FixtureRepo): string {
  return `/api/${repo.type}s/${repo.id}`;
}

function fileBase(repo: FixtureRepo): string {
  return repo.type === "dataset" ? `/datasets/${repo.id}` : `/${repo.id}`;
}

function json(response: ServerResponse, body: unknown): void {
  response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(body));
}

function refuse(response: ServerResponse, status: number, code?: string): void {
  response.writeHead(status, { "content-type": "application/json", ...(code !== undefined && { "x-error-code": code }) });
  response.end(JSON.stringify({ error: code ?? "refused" }));
}

async function listen(server: Server): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  return `http://127.0.0.1:${typeof address === "object" ? address?.port : ""}`;
}

async function close(server: Server): Promise<void> {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
}

import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readdir, readFile, readlink, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { fetchSnapshot, type HubOptions, hubJson, type Progress, UnreachableError, type Wanted } from "./hub.js";
import { hubSettings } from "./hub-environment.js";
import { type FixtureRepo, fixtureCommit, type HubServer, type HubServerOptions, startHubServer } from "./hub-server.fixture.js";

const weights = Uint8Array.from({ length: 3_000_000 }, (_, i) => (i * 7919) >> 5);
const sha256 = createHash("sha256").update(weights).digest("hex");
const repo: FixtureRepo = {
  type: "model",
  id: "org/name",
  files: { "config.json": "{}", "model.safetensors": weights, "pytorch_model.bin": "no", "sub/deep file.txt": "deep", "README.md": "no" },
  revisions: { main: fixtureCommit, "refs/pr/1": "a".repeat(40) },
};
const wanted = (): string[] => ["config.json", "model.safetensors", "sub/deep file.txt"];
const model = { type: "model", id: "org/name" } as const;

let home: string;
let server: HubServer;
const servers: HubServer[] = [];
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), "hub-"));
  server = await start([repo]);
});
afterEach(async () => {
  await Promise.all(servers.splice(0).map((each) => each.close()));
  await rm(home, { recursive: true });
});

async function start(repos: FixtureRepo[], extra?: HubServerOptions): Promise<HubServer> {
  const started = await startHubServer(repos, extra);
  servers.push(started);
  return started;
}

function options(env: Record<string, string> = {}, more: Partial<HubOptions> = {}): HubOptions {
  return { env: { HF_HOME: home, HF_ENDPOINT: server.url, ...env }, sleep: async () => {}, ...more };
}

const folder = (): string => join(home, "hub", "models--org--name");

test("a fresh download has Python's layout, with only the wanted files, and a second one downloads nothing", async () => {
  const seen: Progress[] = [];
  const snapshot = await fetchSnapshot(model, wanted, options({}, { onProgress: (p) => seen.push(p) }));
  expect(snapshot).toEqual({
    path: join(folder(), "snapshots", fixtureCommit),
    revision: fixtureCommit,
    files: wanted(),
    downloaded: weights.length + 2 + 4,
  });
  expect(await readFile(join(folder(), "refs", "main"), "utf8")).toBe(fixtureCommit);
  expect(await readlink(join(snapshot.path, "model.safetensors"))).toBe(`../../blobs/${sha256}`);
  const configOid = "9e26dfeeb6e641a33dae4961196235bdb965b21b"; // git hash-object of "{}"
  expect(await readlink(join(snapshot.path, "config.json"))).toBe(`../../blobs/${configOid}`);
  expect(await readlink(join(snapshot.path, "sub", "deep file.txt"))).toMatch(/^\.\.\/\.\.\/\.\.\/blobs\/[0-9a-f]{40}$/);
  expect(Buffer.compare(await readFile(join(snapshot.path, "model.safetensors")), weights)).toBe(0);
  expect((await readdir(join(folder(), "blobs"))).length).toBe(3);
  const tree = JSON.parse(await readFile(join(folder(), "trees", `${fixtureCommit}.json`), "utf8"));
  expect(tree).toMatchObject({
    format_version: 1,
    files: { "config.json": { size: 2, blob_id: configOid }, "model.safetensors": { lfs_sha256: sha256 } },
  });
  expect(seen.at(-1)).toEqual({ kind: "file", file: "model.safetensors", loaded: weights.length, total: weights.length });
  expect(server.fileRequests().sort()).toEqual([...wanted()].sort());

  server.requests.length = 0;
  expect((await fetchSnapshot(model, wanted, options())).downloaded).toBe(0);
  expect(server.requests.map(({ path }) => path)).toEqual(["/api/models/org/name/revision/main"]);

  server.requests.length = 0;
  expect((await fetchSnapshot({ ...model, revision: fixtureCommit }, wanted, options())).path).toBe(snapshot.path);
  expect(server.requests).toEqual([]);
});

test("what Python's client has put into the cache is used, offline too", async () => {
  await mkdir(join(folder(), "blobs"), { recursive: true });
  await mkdir(join(folder(), "snapshots", fixtureCommit), { recursive: true });
  await mkdir(join(folder(), "refs"));
  await writeFile(join(folder(), "refs", "main"), fixtureCommit);
  await writeFile(join(folder(), "blobs", sha256), weights);
  await symlink(`../../blobs/${sha256}`, join(folder(), "snapshots", fixtureCommit, "model.safetensors"));
  const offline = options({ HF_HUB_OFFLINE: "1" });
  expect((await fetchSnapshot(model, () => ["model.safetensors"], offline)).downloaded).toBe(0);
  await expect(fetchSnapshot(model, wanted, offline)).rejects.toMatchObject({
    code: "E_NETWORK",
    message: expect.stringMatching(/HF_HUB_OFFLINE/),
  });
  expect(server.requests).toEqual([]);
  await fetchSnapshot(model, wanted, options());
  expect(server.fileRequests()).not.toContain("model.safetensors");
});

test("an unreachable hub: the cache serves, and without it the error says so at once", async () => {
  await fetchSnapshot(model, wanted, options());
  await server.close();
  servers.length = 0;
  expect((await fetchSnapshot(model, wanted, options())).downloaded).toBe(0);
  const started = performance.now();
  const failure = fetchSnapshot({ ...model, id: "org/other" }, wanted, options());
  await expect(failure).rejects.toBeInstanceOf(UnreachableError);
  await expect(failure).rejects.toMatchObject({
    code: "E_NETWORK",
    message: expect.stringMatching(/ECONNREFUSED/),
    hint: expect.stringMatching(/HF_ENDPOINT/),
  });
  expect(performance.now() - started).toBeLessThan(2000);
});

test("a hub that does not answer in time, fails, or is a captive portal counts as unreachable", async () => {
  const silent = options(
    { HF_HUB_ETAG_TIMEOUT: "0.1" },
    { fetch: (_, init) => new Promise((_, no) => init?.signal?.addEventListener("abort", () => no(init.signal?.reason))) },
  );
  await expect(fetchSnapshot(model, wanted, silent)).rejects.toBeInstanceOf(UnreachableError);
  const portal = options({}, { fetch: async () => new Response("<html>log in</html>") });
  await expect(fetchSnapshot(model, wanted, portal)).rejects.toThrow(/does not answer as a Hugging Face hub/);
  server.status = 503;
  await expect(fetchSnapshot(model, wanted, options())).rejects.toBeInstanceOf(UnreachableError);
  expect(server.requests.length).toBe(3);
});

test("a cut transfer goes on by Range, within a call and over calls", async () => {
  server.cuts.set("model.safetensors", [1_200_000]);
  await fetchSnapshot(model, wanted, options());
  const ranges = server.requests.filter(({ host }) => host === "cdn").map(({ range }) => range);
  expect(ranges[0]).toBeUndefined();
  expect(Number(/^bytes=(\d+)-$/.exec(ranges[1] ?? "")?.[1])).toBeGreaterThan(0);

  const other = await start([repo]);
  const env = { HF_HOME: join(home, "second"), HF_ENDPOINT: other.url };
  other.cuts.set("model.safetensors", [100_000, 0, 0, 0, 0]);
  const failure = fetchSnapshot(model, wanted, options(env));
  await expect(failure).rejects.toMatchObject({ code: "E_NETWORK", hint: expect.stringMatching(/continues where it stopped/) });
  const part = join(env.HF_HOME, "hub", "models--org--name", "blobs", `${sha256}.incomplete`);
  const kept = (await stat(part)).size;
  expect(kept).toBeGreaterThan(0);
  other.requests.length = 0;
  const snapshot = await fetchSnapshot(model, wanted, options(env));
  expect(other.requests.filter(({ host }) => host === "cdn").map(({ range }) => range)).toEqual([`bytes=${kept}-`]);
  expect(Buffer.compare(await readFile(join(snapshot.path, "model.safetensors")), weights)).toBe(0);
});

test("a damaged part is thrown away and fetched from the start", async () => {
  await mkdir(join(folder(), "blobs"), { recursive: true });
  await writeFile(join(folder(), "blobs", `${sha256}.incomplete`), new Uint8Array(1000));
  const { path } = await fetchSnapshot(model, wanted, options());
  expect(Buffer.compare(await readFile(join(path, "model.safetensors")), weights)).toBe(0);
});

test.each(["model.safetensors", "config.json"])("a wrong hash of %s is refused and nothing stays that looks whole", async (name) => {
  server.corrupt.add(name);
  const attempt = fetchSnapshot(model, () => [name], options());
  await expect(attempt).rejects.toMatchObject({
    code: "E_NETWORK",
    message: expect.stringContaining(`${name} of the model org/name is damaged`),
  });
  expect(await readdir(join(folder(), "blobs"))).toEqual([]);
  await expect(stat(join(folder(), "snapshots", fixtureCommit, name))).rejects.toThrow();
  await expect(stat(join(folder(), "refs", "main"))).rejects.toThrow();
});

test("unknown, private, gated, and unknown revision are told apart", async () => {
  server = await start([repo, { ...repo, id: "org/secret", token: "right" }, { ...repo, id: "org/gated", gated: true }]);
  const get = (id: string, env = {}, revision?: string) =>
    fetchSnapshot({ type: "model", id, revision }, () => ["config.json"], options(env));
  await expect(get("org/typo")).rejects.toMatchObject({
    message: expect.stringMatching(/org\/typo does not exist.*or is private/),
    hint: expect.stringMatching(/spelling.*HF_TOKEN/),
  });
  await expect(get("org/typo", { HF_TOKEN: "right" })).rejects.toMatchObject({
    message: expect.stringMatching(/org\/typo does not exist/),
  });
  await expect(get("org/secret")).rejects.toMatchObject({ hint: expect.stringMatching(/HF_TOKEN/) });
  await expect(get("org/secret", { HF_TOKEN: "wrong" })).rejects.toMatchObject({
    message: expect.stringMatching(/no access/),
    hint: expect.stringMatching(/token in HF_TOKEN/),
  });
  await expect(get("org/secret", { HF_TOKEN: "right" })).resolves.toMatchObject({ revision: fixtureCommit });
  await expect(get("org/gated")).rejects.toMatchObject({
    message: expect.stringMatching(/gated/),
    hint: expect.stringContaining(`${server.url}/org/gated`),
  });
  await expect(get("org/name", {}, "v9")).rejects.toMatchObject({ message: expect.stringMatching(/no revision "v9"/) });
  await expect(get("org/name", {}, "../../x")).rejects.toThrow(/unsafe/);
  expect((await get("org/name", {}, "refs/pr/1")).revision).toBe("a".repeat(40));
});

test("the token, from variable or file, goes to the endpoint and not to the CDN", async () => {
  await writeFile(join(home, "token"), "from-file\n");
  expect((await hubSettings({ HF_HOME: home })).token).toBe("from-file");
  expect((await hubSettings({ HF_HOME: home, HF_TOKEN: "a" })).token).toBe("a");
  await fetchSnapshot(model, wanted, options());
  const of = (host: string) => new Set(server.requests.filter((r) => r.host === host).map((r) => r.authorization));
  expect(of("hub")).toEqual(new Set(["Bearer from-file"]));
  expect(of("cdn")).toEqual(new Set([undefined]));
});

test("datasets, listings of several pages, files that are not there, and other JSON of the API", async () => {
  server = await start([{ ...repo, type: "dataset", id: "org/data" }], {
    pageSize: 2,
    json: { "/api/datasets/org/data/parquet": { a: 1 } },
  });
  const data = { type: "dataset", id: "org/data" } as const;
  const listed: string[] = [];
  const pick: Wanted = (files) => {
    listed.push(...files.map((file) => file.path));
    return ["README.md"];
  };
  const { path } = await fetchSnapshot(data, pick, options());
  expect(listed).toEqual(Object.keys(repo.files).sort());
  expect(path).toBe(join(home, "hub", "datasets--org--data", "snapshots", fixtureCommit));
  expect(await hubJson(data, "/api/datasets/org/data/parquet", options())).toEqual({ a: 1 });
  await expect(fetchSnapshot(data, () => ["x.csv"], options())).rejects.toMatchObject({
    message: expect.stringMatching(/has no x.csv/),
    hint: expect.stringMatching(/README.md/),
  });
});

test("a listing whose names lead out of the cache is refused", async () => {
  server = await start([{ ...repo, files: { "../../evil": "x" } }]);
  await expect(fetchSnapshot(model, (files) => files.map((file) => file.path), options())).rejects.toThrow(/unsafe file name/);
});

test("settings follow Python's client", async () => {
  const at = async (env: Record<string, string>) => (await hubSettings({ HOME: "/h", ...env })).cacheDir;
  expect(await at({})).toBe("/h/.cache/huggingface/hub");
  expect(await at({ XDG_CACHE_HOME: "/x" })).toBe("/x/huggingface/hub");
  expect(await at({ HF_HOME: "~/hf" })).toBe("/h/hf/hub");
  expect(await at({ HF_HOME: "/hf", HF_HUB_CACHE: "/c" })).toBe("/c");
});

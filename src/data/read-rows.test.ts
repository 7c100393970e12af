import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, type RequestListener, type Server } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { PeftError } from "../errors.js";
import { type DownloadProgress, readRows } from "./read-rows.js";

let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "read-rows-"));
});

afterAll(() => rm(folder, { recursive: true }));

async function file(name: string, content: string | Uint8Array): Promise<string> {
  await writeFile(join(folder, name), content);
  return join(folder, name);
}

async function failure(promise: Promise<unknown>): Promise<PeftError> {
  const error = await promise.then(
    () => new Error("nothing was thrown"),
    (reason: unknown) => reason,
  );
  if (error instanceof PeftError) return error;
  throw error;
}

describe("local files", () => {
  it("reads each format by its extension", async () => {
    const expected = [{ text: "a", label: "x" }];
    expect((await readRows(await file("a.jsonl", '{"text":"a","label":"x"}\n'))).rows).toEqual(expected);
    expect((await readRows(await file("a.ndjson", '{"text":"a","label":"x"}\n'))).rows).toEqual(expected);
    expect((await readRows(await file("a.json", '[{"text":"a","label":"x"}]'))).rows).toEqual(expected);
    expect((await readRows(await file("a.csv", "text,label\na,x\n"))).rows).toEqual(expected);
    expect((await readRows(await file("a.tsv", "text\tlabel\na\tx\n"))).rows).toEqual(expected);
    const parquet = await readRows(new URL("fixtures/class-label.parquet", import.meta.url).pathname);
    expect(parquet.rows[0]).toMatchObject({ label: "status", tags: ["O", "B-X"] });
  });

  it("renames columns; a numeric label column is found by its name in the file", async () => {
    const path = await file("m.csv", "utterance,score\na,1\nb,2\n");
    const table = await readRows(path, { map: { text: "utterance", label: "score" } });
    expect(table.rows[1]).toEqual({ text: "b", label: 2 });
    expect(table.where(1)).toBe(`${path}:3`);
  });

  it("says what is wrong with a path", async () => {
    const path = await file("train.jsonl", '{"text":"a"}');
    await mkdir(join(folder, "sub"), { recursive: true });
    expect(await failure(readRows(join(folder, "trian.jsonl")))).toMatchObject({ code: "E_FILE", hint: `Did you mean ${path}?` });
    expect(await failure(readRows("some-org/some-data"))).toMatchObject({
      hint: "For a dataset of the Hugging Face hub write hf:some-org/some-data.",
    });
    expect(await failure(readRows(folder))).toMatchObject({ code: "E_FILE", message: `${folder} is a folder, not a file of rows` });
    expect((await failure(readRows(folder))).hint).toContain("a.csv");
    expect(await failure(readRows(join(folder, "sub")))).toMatchObject({ hint: "Name a file in it." });
    expect(await failure(readRows(await file("a.txt", "x")))).toMatchObject({ code: "E_DATA", message: expect.stringContaining("a.txt") });
    expect(await failure(readRows(await file("e.jsonl", "")))).toMatchObject({
      code: "E_DATA",
      message: expect.stringContaining("is empty"),
    });
    const latin = await file("l.jsonl", Buffer.from('{"text":"a"}\n{"text":"caf\xe9"}\n', "latin1"));
    expect(await failure(readRows(latin))).toMatchObject({ code: "E_DATA", message: `${latin}:2: this is not UTF-8 text` });
  });
});

describe("hub datasets", () => {
  let server: Server;
  let endpoint: string;
  let storage: Server;
  let storageUrl: string;
  let authorizations: string[];

  const listen = (handler: RequestListener): Promise<[Server, string]> =>
    new Promise((resolve) => {
      const made = createServer(handler);
      made.listen(0, "127.0.0.1", () => {
        const address = made.address();
        if (address === null || typeof address === "string") throw new Error("no port");
        resolve([made, `http://127.0.0.1:${address.port}`]);
      });
    });

  beforeAll(async () => {
    const parquet = await readFile(new URL("fixtures/class-label.parquet", import.meta.url));
    [storage, storageUrl] = await listen((request, response) => {
      authorizations.push(`storage ${request.headers.authorization ?? "none"}`);
      response.end(parquet);
    });
    [server, endpoint] = await listen((request, response) => {
      const url = request.url ?? "";
      authorizations.push(`hub ${request.headers.authorization ?? "none"}`);
      const own = (name: string): string => `${endpoint}/files/${name}`;
      const listings: Record<string, unknown> = {
        "org/one": { default: { train: [own("0.parquet"), `${storageUrl}/1.parquet`], test: [own("0.parquet")] } },
        single: { en: { train: [own("0.parquet")] } },
        many: { en: { train: [own("0.parquet")], dev: [own("0.parquet")] }, fr: { train: [own("0.parquet")] } },
        strange: { error: "not ready" },
      };
      const id = /^\/api\/datasets\/(.+)\/parquet$/.exec(url)?.[1];
      if (url.startsWith("/files/")) {
        response.writeHead(200, { "content-length": parquet.length });
        response.end(parquet);
      } else if (id !== undefined && id in listings) {
        response.writeHead(200, { "content-type": "application/json" });
        response.end(JSON.stringify(listings[id]));
      } else {
        response.writeHead(id === "gated" ? 401 : 404);
        response.end();
      }
    });
  });

  beforeEach(() => {
    authorizations = [];
  });

  afterAll(() => {
    server.close();
    storage.close();
  });

  it("joins a split's files, names classes, and sends the token to the endpoint only", async () => {
    const progress: DownloadProgress[] = [];
    const env = { HF_ENDPOINT: `${endpoint}/`, HF_TOKEN: "hf_secret" };
    const table = await readRows("hf:org/one", { env, onProgress: (step) => progress.push(step), map: { utterance: "text" } });
    expect(table.rows.map((row) => row.label)).toEqual(["status", "return", null, "status", "return", null]);
    expect(table.rows[4]).toMatchObject({ utterance: "second" });
    expect(table.where(4)).toBe("hf:org/one:default:train row 5");
    expect(authorizations).toEqual(["hub Bearer hf_secret", "hub Bearer hf_secret", "storage none"]);
    expect(progress.at(-1)).toMatchObject({ file: `${storageUrl}/1.parquet` });
    const first = progress.filter(({ file: name }) => name.endsWith("0.parquet")).at(-1);
    expect(first?.received).toBe(first?.total);
  });

  it("chooses config and split", async () => {
    const env = { HF_ENDPOINT: endpoint };
    const origin = async (source: string): Promise<string> => (await readRows(source, { env })).origin;
    expect(await origin("hf:org/one:test")).toBe("hf:org/one:default:test");
    expect(await origin("hf:single")).toBe("hf:single:en:train");
    expect(await origin("hf:many:fr")).toBe("hf:many:fr:train");
    expect(await origin("hf:many:en:dev")).toBe("hf:many:en:dev");
    expect(await failure(origin("hf:many"))).toMatchObject({ code: "E_DATA", message: "the dataset many has several configs: en, fr" });
    expect(await failure(origin("hf:many:de"))).toMatchObject({ message: 'the dataset many has no config "de"; it has en, fr' });
    expect(await failure(origin("hf:org/one:default:tset"))).toMatchObject({ hint: 'Did you mean "test"?' });
  });

  it("says why a download failed", async () => {
    const env = { HF_ENDPOINT: endpoint };
    expect(await failure(readRows("hf:nope", { env }))).toMatchObject({
      code: "E_NETWORK",
      message: expect.stringContaining("answered 404"),
    });
    expect(await failure(readRows("hf:gated", { env }))).toMatchObject({ code: "E_NETWORK", hint: expect.stringContaining("HF_TOKEN") });
    expect(await failure(readRows("hf:strange", { env }))).toMatchObject({ code: "E_NETWORK" });
    expect(await failure(readRows("hf:a/b/c", { env }))).toMatchObject({ code: "E_DATA" });
    const offline = await failure(readRows("hf:org/one", { env: { ...env, HF_HUB_OFFLINE: "1" } }));
    expect(offline).toMatchObject({ code: "E_NETWORK", message: expect.stringContaining("HF_HUB_OFFLINE=1") });
    const down = await failure(readRows("hf:org/one", { env: { HF_ENDPOINT: "http://127.0.0.1:1" } }));
    expect(down).toMatchObject({
      code: "E_NETWORK",
      message: expect.stringMatching(/cannot fetch http:\/\/127\.0\.0\.1:1\S* for hf:org\/one: (ECONNREFUSED|bad port)/),
    });
  });
});

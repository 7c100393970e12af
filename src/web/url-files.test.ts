import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { gzipSync } from "node:zlib";
import { afterEach, expect, test } from "vitest";
import { FileError, NetworkError } from "../errors.js";
import { urlFiles } from "./url-files.js";

const content = Uint8Array.from({ length: 1000 }, (_, i) => i % 251);
const open: Server[] = [];

afterEach(async () => {
  for (const server of open.splice(0)) await new Promise((resolve) => server.close(resolve));
});

/** A server on loopback; gives its address and the requests it got. */
async function serve(answer: (request: IncomingMessage, response: ServerResponse) => void): Promise<{ base: string; log: string[] }> {
  const log: string[] = [];
  const server = createServer((request, response) => {
    log.push(`${request.method} ${request.url} ${request.headers.range ?? "-"}`);
    answer(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  open.push(server);
  return { base: `http://127.0.0.1:${(server.address() as AddressInfo).port}/model`, log };
}

function withRanges(request: IncomingMessage, response: ServerResponse): void {
  if (request.url !== "/model/weights.bin") {
    response.writeHead(404).end("<html>not here</html>");
    return;
  }
  const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
  if (range === null) {
    response.writeHead(200, { "content-length": content.length }).end(request.method === "HEAD" ? undefined : content);
    return;
  }
  const start = Number(range[1]);
  if (start >= content.length) {
    response.writeHead(416).end();
    return;
  }
  response.writeHead(206).end(content.subarray(start, range[2] === "" ? undefined : Number(range[2]) + 1));
}

function withoutRanges(request: IncomingMessage, response: ServerResponse): void {
  response.writeHead(200, { "content-length": content.length }).end(request.method === "HEAD" ? undefined : content);
}

test("reads sizes, wholes and ranges", async () => {
  const { base, log } = await serve(withRanges);
  const files = urlFiles(base);
  expect(files.origin).toBe(base);
  expect(await files.size("weights.bin")).toBe(1000);
  expect(await files.read("weights.bin", 10, 20)).toEqual(content.slice(10, 20));
  expect(await files.read("weights.bin", 990)).toEqual(content.slice(990));
  expect(await files.read("weights.bin", 5, 5)).toEqual(new Uint8Array());
  expect(await files.read("weights.bin")).toEqual(content);
  expect(log).toEqual([
    "HEAD /model/weights.bin -",
    "GET /model/weights.bin bytes=10-19",
    "GET /model/weights.bin bytes=990-",
    "GET /model/weights.bin -",
  ]);
});

test("a server that ignores ranges is asked once, and what is returned may be changed", async () => {
  const { base, log } = await serve(withoutRanges);
  const files = urlFiles(base);
  (await files.read("weights.bin", 10, 20)).fill(0);
  expect(await files.read("weights.bin", 10, 20)).toEqual(content.slice(10, 20));
  expect(await files.read("weights.bin", 900)).toEqual(content.slice(900));
  expect(log).toHaveLength(1);
  await expect(files.read("weights.bin", 900, 1001)).rejects.toThrow(/asked for bytes 900 to 1001 of a file of 1000 bytes/);
});

test("sizes do not rest on a length that is missing or that of a compressed body", async () => {
  const chunked = await serve((request, response) => {
    response.writeHead(200, { "transfer-encoding": "chunked" });
    response.end(request.method === "HEAD" ? undefined : content);
  });
  expect(await urlFiles(chunked.base).size("weights.bin")).toBe(1000);
  const packed = gzipSync(content);
  const compressed = await serve((request, response) => {
    response.writeHead(200, { "content-encoding": "gzip", "content-length": packed.length });
    response.end(request.method === "HEAD" ? undefined : packed);
  });
  expect(await urlFiles(compressed.base).size("weights.bin")).toBe(1000);
  const noHead = await serve((request, response) => {
    response.writeHead(request.method === "HEAD" ? 405 : 200).end(request.method === "HEAD" ? undefined : content);
  });
  const files = urlFiles(noHead.base);
  expect(await files.size("weights.bin")).toBe(1000);
  expect(await files.read("weights.bin", 1, 3)).toEqual(content.slice(1, 3));
  expect(noHead.log).toHaveLength(2);
});

test("missing files, short files and refusals", async () => {
  const { base } = await serve(withRanges);
  const files = urlFiles(`${base}/`);
  expect(await files.size("other.bin")).toBeUndefined();
  await expect(files.read("other.bin")).rejects.toThrow(FileError);
  await expect(files.read("other.bin")).rejects.toThrow(`${base}/other.bin: no such file`);
  await expect(files.read("weights.bin", 990, 1010)).rejects.toThrow(/asked for bytes 990 to 1010, got 10 bytes/);
  await expect(files.read("weights.bin", 2000, 2010)).rejects.toThrow(/ends before byte 2000/);
  await expect(files.read("../secret")).rejects.toThrow(FileError);
  const locked = await serve((_, response) => response.writeHead(403).end());
  await expect(urlFiles(locked.base).size("weights.bin")).rejects.toThrow(/403 Forbidden/);
  await expect(urlFiles(locked.base).read("weights.bin")).rejects.toThrow(NetworkError);
});

test("names are escaped and stay below the base", async () => {
  const { base, log } = await serve(withoutRanges);
  await urlFiles(base).read("1_Pooling/a b?.json");
  await urlFiles(base).read("http://127.0.0.1:1/x".replaceAll("//", "/"));
  expect(log).toEqual(["GET /model/1_Pooling/a%20b%3F.json -", "GET /model/http%3A/127.0.0.1%3A1/x -"]);
});

test("an unreachable server and a broken transfer are NetworkErrors with a hint", async () => {
  const { base } = await serve(withRanges);
  await new Promise((resolve) => open.pop()!.close(resolve));
  const error: unknown = await urlFiles(base)
    .size("weights.bin")
    .catch((cause: unknown) => cause);
  expect(error).toBeInstanceOf(NetworkError);
  expect((error as NetworkError).hint).toMatch(/CORS/);
  const cutOff = await serve((_, response) => {
    response.writeHead(200, { "content-length": 1000 });
    response.write(content.subarray(0, 100), () => response.destroy());
  });
  await expect(urlFiles(cutOff.base).read("weights.bin")).rejects.toThrow(NetworkError);
});

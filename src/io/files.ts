/**
 * A read-only set of files: a folder on disk, a snapshot in the hub's cache, a set of URLs, or buffers in a browser.
 * Names are relative, with forward slashes: `config.json`, `1_Pooling/config.json`.
 */
export interface Files {
  /** Where the files come from, for messages: a path, a hub id, a URL. */
  readonly origin: string;
  /** Size in bytes, or undefined when there is no such file. */
  size(name: string): Promise<number | undefined>;
  /** Bytes `[start, end)` of a file, the whole of it by default. Throws FileError when it is missing or shorter. */
  read(name: string, start?: number, end?: number): Promise<Uint8Array<ArrayBuffer>>;
  /** The sha256 of a file as hex digits, where it can be had without reading the file through `read`. Throws FileError when it is missing. */
  sha256?(name: string): Promise<string>;
}

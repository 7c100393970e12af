import type { Files } from "./files.js";

/** The files under a folder of a set of files. */
export function subfolder(files: Files, name: string): Files {
  const within = (file: string): string => `${name}/${file}`;
  return {
    origin: `${files.origin}/${name}`,
    size: (file) => files.size(within(file)),
    read: (file, start, end) => files.read(within(file), start, end),
    ...(files.sha256 === undefined ? {} : { sha256: (file: string) => files.sha256!(within(file)) }),
  };
}

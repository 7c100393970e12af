import { FileError } from "../errors.js";

/** A file to put into an archive. */
export interface ZipMember {
  readonly name: string;
  readonly bytes: Uint8Array;
}

const localHeader = 0x04034b50;
const centralHeader = 0x02014b50;
const endHeader = 0x06054b50;
/** 1 January 1980, the first date that the format can hold: archives of the same files are the same bytes. */
const date = 0x21;
/** torch maps storages into memory at multiples of this. */
const alignment = 64;
/** The id of an extra field that only pads, as torch's own writer has it. */
const paddingId = 0x4246;

/**
 * An uncompressed zip archive (PKWARE APPNOTE 6.3.10), with each file's bytes aligned to 64. Throws FileError beyond 4 GiB or 65535 files, which
 * would need zip64.
 */
export function writeZip(members: readonly ZipMember[]): Uint8Array<ArrayBuffer> {
  const parts: Uint8Array[] = [];
  const directory: Uint8Array[] = [];
  let offset = 0;
  for (const { name, bytes } of members) {
    const encoded = new TextEncoder().encode(name);
    const unpadded = offset + 30 + encoded.length + 4;
    const padding = (alignment - (unpadded % alignment)) % alignment;
    const size = bytes.length;
    // version, flag for UTF-8, stored, time, date, …
    const common: Fields = [
      [2, 20],
      [2, 0x800],
      [2, 0],
      [2, 0],
      [2, date],
      [4, crc32(bytes)],
      [4, size],
      [4, size],
      [2, encoded.length],
    ];
    parts.push(record([[4, localHeader], ...common, [2, 4 + padding]]), encoded);
    parts.push(
      record([
        [2, paddingId],
        [2, padding],
      ]),
      new Uint8Array(padding),
      bytes,
    );
    // … no extra field, comment, disk or attributes
    directory.push(record([[4, centralHeader], [2, 20], ...common, [2, 0], [2, 0], [2, 0], [2, 0], [4, 0], [4, offset]]), encoded);
    offset = unpadded + padding + size;
  }
  const count = members.length;
  const length = directory.reduce((total, part) => total + part.length, 0);
  if (offset + length > 0xffffffff || count > 0xffff) {
    throw new FileError(`cannot write a zip archive of ${count} files and ${offset + length} bytes: at most 65535 files and 4 GiB`);
  }
  return concat([
    ...parts,
    ...directory,
    record([
      [4, endHeader],
      [2, 0],
      [2, 0],
      [2, count],
      [2, count],
      [4, length],
      [4, offset],
      [2, 0],
    ]),
  ]);
}

type Fields = readonly (readonly [size: 2 | 4, value: number])[];

/** Little-endian numbers of 2 or 4 bytes, one after the other. */
function record(fields: Fields): Uint8Array<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(fields.reduce((total, [size]) => total + size, 0)));
  let at = 0;
  for (const [size, value] of fields) {
    if (size === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += size;
  }
  return new Uint8Array(view.buffer);
}

function concat(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const all = new Uint8Array(parts.reduce((total, part) => total + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

const crcTable = Int32Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let k = 0; k < 8; k++) c = c & 1 ? (c >>> 1) ^ 0xedb88320 : c >>> 1;
  return c;
});

/** The CRC-32 of zip archives (ISO 3309). */
function crc32(bytes: Uint8Array): number {
  let crc = -1;
  for (const byte of bytes) crc = (crc >>> 8) ^ crcTable[(crc ^ byte) & 0xff]!;
  return ~crc >>> 0;
}

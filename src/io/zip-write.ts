/** A file in an archive. */
export interface ZipEntry {
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

/** An uncompressed zip archive (PKWARE APPNOTE 6.3.10), with each file's bytes aligned to 64. Throws RangeError beyond 4 GiB. */
export function writeZip(entries: readonly ZipEntry[]): Uint8Array<ArrayBuffer> {
  const parts: Uint8Array[] = [];
  const directory: Uint8Array[] = [];
  let offset = 0;
  for (const { name, bytes } of entries) {
    const encoded = new TextEncoder().encode(name);
    const crc = crc32(bytes);
    // an extra field of this id and length pads the header
    const unpadded = offset + 30 + encoded.length + 4;
    const padding = (alignment - (unpadded % alignment)) % alignment;
    const common = record(
      [2, 20],
      [2, 0x800],
      [2, 0],
      [2, 0],
      [2, date],
      [4, crc],
      [4, bytes.length],
      [4, bytes.length],
      [2, encoded.length],
    );
    const header = record([4, localHeader]);
    const extra = concat([record([2, 4 + padding], [2, 0x4246], [2, padding]), new Uint8Array(padding)]);
    const local = concat([header, common, extra.subarray(0, 2), encoded, extra.subarray(2)]);
    directory.push(
      concat([record([4, centralHeader], [2, 20]), common, record([2, 0], [2, 0], [2, 0], [2, 0], [4, 0], [4, offset]), encoded]),
    );
    parts.push(local, bytes);
    offset += local.length + bytes.length;
  }
  const central = concat(directory);
  if (offset + central.length > 0xffffffff) throw new RangeError("a zip archive of this kind holds at most 4 GiB");
  const count = entries.length;
  return concat([
    ...parts,
    central,
    record([4, endHeader], [2, 0], [2, 0], [2, count], [2, count], [4, central.length], [4, offset], [2, 0]),
  ]);
}

/** Little-endian numbers of 2 or 4 bytes, one after the other. */
function record(...fields: readonly (readonly [size: 2 | 4, value: number])[]): Uint8Array<ArrayBuffer> {
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

/** The CRC-32 of zip archives (ISO 3309). */
function crc32(bytes: Uint8Array): number {
  const table = Int32Array.from({ length: 256 }, (_, n) => {
    let c = n;
    for (let k = 0; k < 8; k++) c = c & 1 ? (c >>> 1) ^ 0xedb88320 : c >>> 1;
    return c;
  });
  let crc = -1;
  for (const byte of bytes) crc = (crc >>> 8) ^ table[(crc ^ byte) & 0xff]!;
  return ~crc >>> 0;
}

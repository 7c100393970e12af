/** One file in a zip archive, as the archive's directory has it. */
export interface ZipEntry {
  readonly name: string;
  /** Bytes when unpacked. */
  readonly size: number;
  readonly compressedSize: number;
  readonly crc32: number;
  /** 0 stored, 8 deflate. */
  readonly method: number;
  readonly headerOffset: number;
  /** Bytes of the name in the file's own header. */
  readonly nameLength: number;
}

/** Where a zip archive's bytes come from. */
export interface ZipSource {
  /** Bytes of the whole archive. */
  readonly size: number;
  /** Bytes `[start, end)`, all of them. */
  read(start: number, end: number): Promise<Uint8Array>;
  /** The error for an archive that breaks the format's rules. */
  damaged(why: string): Error;
}

const localHeader = 0x04034b50;
const centralHeader = 0x02014b50;
const endHeader = 0x06054b50;
const zip64EndHeader = 0x06064b50;
const zip64LocatorHeader = 0x07064b50;
const noRecord = "no end record: it is not a zip archive, or was cut off";

/**
 * The directory of a zip archive, zip64 too. Format: PKWARE APPNOTE 6.3, sections 4.3.7 to 4.3.16 and 4.5.3. Throws what `damaged` makes for an
 * archive that was cut off or whose offsets and sizes do not fit it, for encrypted files, and for a name that is there twice.
 */
export async function readZipDirectory(source: ZipSource): Promise<ReadonlyMap<string, ZipEntry>> {
  const { count, start, length } = await findDirectory(source);
  const directory = view(await source.read(start, start + length));
  const entries = new Map<string, ZipEntry>();
  let at = 0;
  for (let i = 0; i < count; i++) {
    if (at + 46 > length || directory.getUint32(at, true) !== centralHeader) throw source.damaged("its directory is damaged");
    const nameLength = directory.getUint16(at + 28, true);
    const extra = at + 46 + nameLength;
    const next = extra + directory.getUint16(at + 30, true) + directory.getUint16(at + 32, true);
    if (next > length) throw source.damaged("its directory is damaged");
    const name = new TextDecoder().decode(new Uint8Array(directory.buffer, directory.byteOffset + at + 46, nameLength));
    const [size, compressedSize, headerOffset] = wideFields(directory, extra, extra + directory.getUint16(at + 30, true), [
      directory.getUint32(at + 24, true),
      directory.getUint32(at + 20, true),
      directory.getUint32(at + 42, true),
    ]);
    const method = directory.getUint16(at + 10, true);
    if (entries.has(name)) throw source.damaged(`${name} is there twice`);
    if ((directory.getUint16(at + 8, true) & 1) === 1) throw source.damaged(`${name} is encrypted`);
    if (!(headerOffset + 30 + nameLength + compressedSize <= start)) throw source.damaged(`${name} does not lie inside it`);
    entries.set(name, { name, size, compressedSize, crc32: directory.getUint32(at + 16, true), method, headerOffset, nameLength });
    at = next;
  }
  return entries;
}

/** Where a file's bytes start. Its own header repeats the name, and may have more beside it than the directory says. */
export async function zipDataStart(source: ZipSource, entry: ZipEntry): Promise<number> {
  const { name, headerOffset, nameLength, compressedSize } = entry;
  const bytes = await source.read(headerOffset, headerOffset + 30 + nameLength);
  const header = view(bytes);
  const isHeader = header.getUint32(0, true) === localHeader && header.getUint16(26, true) === nameLength;
  if (!isHeader || new TextDecoder().decode(bytes.subarray(30)) !== name) throw source.damaged(`${name} has no header`);
  const start = headerOffset + 30 + nameLength + header.getUint16(28, true);
  if (start + compressedSize > source.size) throw source.damaged(`${name} ends after it`);
  return start;
}

async function findDirectory(source: ZipSource): Promise<{ count: number; start: number; length: number }> {
  // The end record is 22 bytes and a comment of at most 65535.
  const tailStart = Math.max(0, source.size - 22 - 0xffff);
  const tail = view(await source.read(tailStart, source.size));
  let at = tail.byteLength - 22;
  while (at >= 0 && tail.getUint32(at, true) !== endHeader) at--;
  if (at < 0) throw source.damaged(noRecord);
  const end = tailStart + at;
  const small = {
    count: tail.getUint16(at + 10, true),
    length: tail.getUint32(at + 12, true),
    start: tail.getUint32(at + 16, true),
  };
  const isWide = small.count === 0xffff || small.length === 0xffffffff || small.start === 0xffffffff;
  const found = isWide ? await wideDirectory(source, end) : small;
  // `!(… <= …)`, here and above: a number beyond 2^53 is NaN
  if (!(found.start + found.length <= end)) throw source.damaged("its directory does not lie inside it");
  return found;
}

/** What stands in zip64's end record, which a locator in front of the usual one points at. */
async function wideDirectory(source: ZipSource, end: number): Promise<{ count: number; start: number; length: number }> {
  if (end < 20) throw source.damaged(noRecord);
  const locator = view(await source.read(end - 20, end));
  const at = wide(locator, 8);
  if (locator.getUint32(0, true) !== zip64LocatorHeader || !(at + 56 <= end)) throw source.damaged("no zip64 end record");
  const record = view(await source.read(at, at + 56));
  if (record.getUint32(0, true) !== zip64EndHeader) throw source.damaged("no zip64 end record");
  return { count: wide(record, 32), length: wide(record, 40), start: wide(record, 48) };
}

/** Size, compressed size and offset; those that are all ones stand in zip64's extra field, in this order. NaN where they do not. */
function wideFields(
  directory: DataView,
  from: number,
  to: number,
  fields: readonly [size: number, compressedSize: number, headerOffset: number],
): readonly [number, number, number] {
  let at = from;
  while (at + 4 <= to && directory.getUint16(at, true) !== 1) at += 4 + directory.getUint16(at + 2, true);
  const end = at + 4 <= to ? Math.min(to, at + 4 + directory.getUint16(at + 2, true)) : 0;
  at += 4;
  const take = (field: number): number => {
    if (field !== 0xffffffff) return field;
    at += 8;
    return at <= end ? wide(directory, at - 8) : Number.NaN;
  };
  const [size, compressedSize, headerOffset] = fields;
  return [take(size), take(compressedSize), take(headerOffset)];
}

/** A number of 8 bytes; NaN beyond 2^53. */
function wide(bytes: DataView, at: number): number {
  const value = Number(bytes.getBigUint64(at, true));
  return Number.isSafeInteger(value) ? value : Number.NaN;
}

function view(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

import { crc32, deflateRawSync } from "node:zlib";

/** A zip archive's bytes, for tests: every file deflated, or stored when `stored` names it. */
export function makeZip(files: Readonly<Record<string, Uint8Array>>, stored: readonly string[] = []): Uint8Array {
  const local: Buffer[] = [];
  const central: Buffer[] = [];
  let offset = 0;
  for (const [name, body] of Object.entries(files)) {
    const method = stored.includes(name) ? 0 : 8;
    const packed = method === 0 ? body : deflateRawSync(body);
    const fields = Buffer.alloc(26);
    fields.writeUInt16LE(20, 0);
    fields.writeUInt16LE(method, 4);
    fields.writeUInt32LE(crc32(body), 10);
    fields.writeUInt32LE(packed.length, 14);
    fields.writeUInt32LE(body.length, 18);
    fields.writeUInt16LE(Buffer.byteLength(name), 22);
    // The local header has an extra field that the directory has not, as zip programs like to write it.
    const header = Buffer.concat([Buffer.from("PK\x03\x04"), fields, Buffer.from(name), Buffer.from("EX\x02\x00hi")]);
    header.writeUInt16LE(6, 28);
    const tail = Buffer.alloc(14);
    tail.writeUInt32LE(offset, 10);
    central.push(Buffer.concat([Buffer.from("PK\x01\x02\x14\x00"), fields, tail, Buffer.from(name)]));
    local.push(header, Buffer.from(packed));
    offset += header.length + packed.length;
  }
  const directory = Buffer.concat(central);
  const end = Buffer.alloc(22);
  end.write("PK\x05\x06", "latin1");
  end.writeUInt16LE(central.length, 8);
  end.writeUInt16LE(central.length, 10);
  end.writeUInt32LE(directory.length, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...local, directory, end]);
}

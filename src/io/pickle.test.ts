import { describe, expect, test } from "vitest";
import { isTuple, readPickle } from "./pickle.js";
import { type PicklePart, pickle } from "./torch-bin.fixture.js";

/** Reads a pickle with one global that can be called, one that is only named, and persistent ids that come back in a box. */
function read(...parts: PicklePart[]): unknown {
  const globals = new Map([
    ["lib.pair", { name: "lib.pair", call: (args: readonly unknown[]) => ({ pair: args }) }],
    ["lib.Kind", { name: "lib.Kind" }],
  ]);
  return readPickle(pickle(...parts), "f.bin", { globals, persistent: (id) => ({ box: id }) });
}

describe("what Python's pickle.dumps makes of plain values", () => {
  // each was printed by CPython 3.12 for protocol 2 and 4
  test.each<[string, unknown, string, string]>([
    ["a list", [1, 2, 3], "\x80\x02]q\x00(K\x01K\x02K\x03e.", "\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00]\x94(K\x01K\x02K\x03e."],
    [
      "tuples",
      [1, [2], [], [1, 2], [1, 2, 3], [1, 2, 3, 4]],
      "\x80\x02(K\x01K\x02\x85q\x00)K\x01K\x02\x86q\x01K\x01K\x02K\x03\x87q\x02(K\x01K\x02K\x03K\x04tq\x03tq\x04.",
      "\x80\x04\x95$\x00\x00\x00\x00\x00\x00\x00(K\x01K\x02\x85\x94)K\x01K\x02\x86\x94K\x01K\x02K\x03\x87\x94(K\x01K\x02K\x03K\x04t\x94t\x94.",
    ],
    [
      "a dict and numbers",
      new Map([["a", [5.5, -1, 70000, 2 ** 40, -(2 ** 40), null, true]]]),
      "\x80\x02}q\x00X\x01\x00\x00\x00aq\x01]q\x02(G@\x16\x00\x00\x00\x00\x00\x00J\xff\xff\xff\xffJp\x11\x01\x00\x8a\x06\x00\x00\x00\x00\x00\x01\x8a\x06\x00\x00\x00\x00\x00\xffN\x88es.",
      "\x80\x04\x951\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x01a\x94]\x94(G@\x16\x00\x00\x00\x00\x00\x00J\xff\xff\xff\xffJp\x11\x01\x00\x8a\x06\x00\x00\x00\x00\x00\x01\x8a\x06\x00\x00\x00\x00\x00\xffN\x88es.",
    ],
    [
      "a text",
      "üüü",
      "\x80\x02X\x06\x00\x00\x00\xc3\xbc\xc3\xbc\xc3\xbcq\x00.",
      "\x80\x04\x95\n\x00\x00\x00\x00\x00\x00\x00\x8c\x06\xc3\xbc\xc3\xbc\xc3\xbc\x94.",
    ],
  ])("%s", (_, value, two, four) => {
    expect(read(two)).toEqual(value);
    expect(read(four)).toEqual(value);
  });
});

test("memo, items one by one, and several dicts", () => {
  expect(read("\x80\x02}", { text: "a" }, "q\x07K\x01s(h\x07M\x01\x02", { text: "b" }, "r\x00\x01\x00\x00\x89u.")).toEqual(
    new Map<string, unknown>([
      ["a", 513],
      ["b", false],
    ]),
  );
  expect(read("\x80\x02]K\x01aK\x02a.")).toEqual([1, 2]);
  expect(read("\x80\x02}q\x00K\x05q\x01j\x01\x00\x00\x00s.")).toEqual(new Map([[5, 5]]));
  const shared = read("\x80\x02(]q\x00h\x00t.") as readonly unknown[];
  expect(shared[0]).toBe(shared[1]);
  expect([isTuple(shared), isTuple(shared[0])]).toEqual([true, false]);
});

test("globals of the list are called, named and given to persistent ids; attributes of dicts are passed over", () => {
  expect(read("\x80\x02clib\npair\nK\x01K\x02\x86R.")).toEqual({ pair: [1, 2] });
  expect(read("\x80\x04\x8c\x03lib\x94\x8c\x04pair\x94\x93)R.")).toEqual({ pair: [] });
  expect(read("\x80\x02clib\nKind\nQ.")).toEqual({ box: { name: "lib.Kind" } });
  expect(read("\x80\x02}}", { text: "_metadata" }, "Nsb.")).toEqual(new Map());
});

describe("refuses", () => {
  const system = { text: "touch /tmp/x" };
  test.each<[string, PicklePart[], RegExp]>([
    [
      "os.system",
      ["\x80\x02cos\nsystem\n", system, "\x85R."],
      /f\.bin: refused at byte 13 of its pickle: it names "os\.system"; .*run code/,
    ],
    ["posix.system, which os.system is", ["\x80\x02cposix\nsystem\n", system, "\x85R."], /names "posix\.system"/],
    ["builtins.eval", ["\x80\x02cbuiltins\neval\n", { text: "1+1" }, "\x85R."], /names "builtins\.eval"/],
    ["Python 2's eval", ["\x80\x02c__builtin__\neval\n", { text: "1+1" }, "\x85R."], /names "__builtin__\.eval"/],
    ["builtins.getattr by STACK_GLOBAL", ["\x80\x04\x8c\x08builtins\x8c\x07getattr\x93."], /names "builtins\.getattr"/],
    ["a global spelled through a dotted name", ["\x80\x02clib.pair\n__globals__\n."], /names "lib\.pair\.__globals__"/],
    ["a global inherited from Object", ["\x80\x02clib\nconstructor\n."], /names "lib\.constructor"/],
    ["a global whose name is no text", ["\x80\x04K\x01K\x02\x93."], /something else than texts/],
    ["INST", ["\x80\x02(", system, "ios\nsystem\n."], /opcode INST, which can run code/],
    ["OBJ", ["\x80\x02(clib\nKind\no."], /opcode OBJ, which can run code/],
    ["NEWOBJ", ["\x80\x02clib\nKind\n)\x81."], /opcode NEWOBJ, which can run code/],
    ["NEWOBJ_EX", ["\x80\x04clib\nKind\n)}\x92."], /opcode NEWOBJ_EX, which can run code/],
    ["extension registry", ["\x80\x02\x82\x01."], /opcode EXT1, which can run code/],
    ["an opcode of protocol 0", ["\x80\x02I01\n."], /opcode 0x49, which files of tensors do not need/],
    ["calling what is only named", ["\x80\x02clib\nKind\n)R."], /it calls lib\.Kind/],
    ["calling a value", ["\x80\x02", { text: "eval" }, ")R."], /it calls what cannot be called/],
    ["calling what a call made", ["\x80\x02clib\npair\n)R)R."], /it calls what cannot be called/],
    ["calling without a tuple", ["\x80\x02clib\npair\n]R."], /lib\.pair without a tuple/],
    ["attributes of something else", ["\x80\x02clib\nKind\n}b."], /BUILD, which sets attributes/],
    ["protocol 0", ["\x80\x00N."], /protocol 0; 2 to 5/],
    ["a stack that is empty", ["\x80\x02\x85."], /empty stack/],
    ["an empty stack for put", ["\x80\x02q\x00."], /empty stack/],
    ["what is below a mark", ["\x80\x02N(\x85."], /empty stack/],
    ["a mark that is missing", ["\x80\x02Nt."], /a mark where there is none/],
    ["a mark that stays open", ["\x80\x02(N."], /does not end with one value/],
    ["two values", ["\x80\x02NN."], /does not end with one value/],
    ["more after the end", ["\x80\x02N.N"], /goes on after its end/],
    ["a memo that was never put", ["\x80\x02h\x03."], /memo 3, which was never put/],
    ["items without a dict", ["\x80\x02](NNu."], /items of something else than a dict/],
    ["half an item", ["\x80\x02}(Nu."], /items of something else than a dict/],
    ["items of a tuple", ["\x80\x02)Na."], /appends to something else than a list/],
    ["a text that is cut off", ["\x80\x02X\xff\xff\xff\xff..."], /ends too early/],
    ["a frame beyond 2^53", ["\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\xffN."], /beyond 2\^53/],
    ["a long beyond 2^53", ["\x80\x02\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x40."], /beyond 2\^53/],
    ["a long of 200 bytes", ["\x80\x02\x8a\xc8", "\x01".repeat(200), "."], /an integer of 200 bytes/],
    ["a text that is not UTF-8", ["\x80\x02X\x01\x00\x00\x00\xff."], /not UTF-8/],
    ["a global that is cut off", ["\x80\x02clib\npai"], /ends too early/],
    ["no end", ["\x80\x02N"], /ends too early/],
    ["nothing", [], /ends too early/],
  ])("%s", (_, parts, message) => {
    expect(() => read(...parts)).toThrow(message);
    expect(() => read(...parts)).toThrow(expect.objectContaining({ code: "E_WEIGHT", hint: expect.stringContaining("safetensors") }));
  });
});

test("refuses a bomb of small values before it fills the memory", () => {
  const bomb = new Uint8Array(1_000_001).fill(0x7d); // EMPTY_DICT
  expect(() => readPickle(bomb, "f.bin", { globals: new Map(), persistent: () => null })).toThrow(/more than 1000000 opcodes/);
});

/** What Python's `str.strip` takes for white space. */
const whitespace =
  "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000";

/** Python's `str.strip`, `lstrip` or `rstrip` (`side`): takes characters off a text's ends, white space unless some are named. */
export function pythonStrip(text: string, side: string, characters: string = whitespace): string {
  const all = [...text];
  const taken = new Set(characters);
  let start = 0;
  let end = all.length;
  while (side !== "rstrip" && start < end && taken.has(all[start]!)) start++;
  while (side !== "lstrip" && end > start && taken.has(all[end - 1]!)) end--;
  return all.slice(start, end).join("");
}

/** Python's `range`. Throws Error for a step of 0. */
export function pythonRange(first: number, second?: number, step = 1): readonly number[] {
  if (step === 0) throw new Error("range() arg 3 must not be zero");
  const [start, stop] = second === undefined ? [0, first] : [first, second];
  return Array.from({ length: Math.max(0, Math.ceil((stop - start) / step)) }, (_, i) => start + i * step);
}

const days = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const months = "January February March April May June July August September October November December".split(" ");

/** Python's `datetime.strftime` in its "C" locale, local time; codes other than a A b B d m y Y H I M S p j and % stay as they are. */
export function strftime(date: Date, format: string): string {
  const two = (value: number): string => String(value).padStart(2, "0");
  const [day, month, year] = [days[date.getDay()]!, months[date.getMonth()]!, date.getFullYear()];
  const dayOfYear = Math.round((Date.UTC(year, date.getMonth(), date.getDate()) - Date.UTC(year, 0, 0)) / 86_400_000);
  const codes: Readonly<Record<string, string>> = {
    ...{ a: day.slice(0, 3), A: day, b: month.slice(0, 3), B: month, d: two(date.getDate()), m: two(date.getMonth() + 1) },
    ...{ y: two(year % 100), Y: String(year), H: two(date.getHours()), I: two(date.getHours() % 12 || 12), M: two(date.getMinutes()) },
    ...{ S: two(date.getSeconds()), p: date.getHours() < 12 ? "AM" : "PM", j: String(dayOfYear).padStart(3, "0"), "%": "%" },
  };
  return format.replaceAll(/%(.)/gs, (all, code: string) => codes[code] ?? all);
}

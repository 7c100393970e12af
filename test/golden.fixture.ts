/** Where `got` lacks what `wanted` has. Numbers may differ by the tolerance, absolute or relative; more fields than wanted are allowed. */
export function differences(got: unknown, wanted: unknown, tolerance: number, path = ""): readonly string[] {
  if (typeof wanted === "number") {
    const near = typeof got === "number" && Math.abs(got - wanted) <= tolerance * Math.max(1, Math.abs(wanted));
    return near ? [] : [`${path}: got ${got}, want ${wanted}`];
  }
  if (typeof wanted !== "object" || wanted === null) return got === wanted ? [] : [`${path}: got ${got}, want ${wanted}`];
  if (Array.isArray(wanted) && (!Array.isArray(got) || got.length !== wanted.length)) return [`${path}: not a list of ${wanted.length}`];
  if (typeof got !== "object" || got === null) return [`${path}: got ${got}`];
  return Object.entries(wanted).flatMap(([key, each]) =>
    differences((got as Record<string, unknown>)[key], each, tolerance, `${path}.${key}`),
  );
}

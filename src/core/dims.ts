import { ShapeError } from "../errors.js";

/**
 * A size: a number, or a symbolic one such as "T", "B*S" or "S+5". Symbolic sizes are polynomials kept in one normal form (terms sorted, like
 * terms added up), so that two sizes are equal exactly when they are `===`.
 */
export type Dim = number | string;

/** Coefficients by monomial; a monomial is its symbols sorted and joined with "*", "" for the constant term. */
type Polynomial = ReadonlyMap<string, number>;

function parse(dim: Dim): Polynomial {
  if (typeof dim === "number") return new Map([["", dim]]);
  const terms = new Map<string, number>();
  const sum = dim.slice(0, 1) + dim.slice(1).replaceAll("-", "+-");
  for (const term of sum.split("+")) {
    let coefficient = 1;
    const symbols: string[] = [];
    for (const factor of term.split("*")) {
      const sign = factor.startsWith("-") ? -1 : 1;
      const body = sign < 0 ? factor.slice(1) : factor;
      coefficient *= sign;
      if (/^\d+$/.test(body)) coefficient *= Number(body);
      else if (/^[A-Za-z_]\w*$/.test(body)) symbols.push(body);
      else throw new ShapeError(`"${dim}" is not a size: expected a number or a sum of products of names, such as "B*S+1"`);
    }
    const monomial = symbols.sort().join("*");
    terms.set(monomial, (terms.get(monomial) ?? 0) + coefficient);
  }
  return terms;
}

function print(polynomial: Polynomial): Dim {
  const terms = [...polynomial]
    .filter(([, coefficient]) => coefficient !== 0)
    .sort(([a], [b]) => (a === "" ? 1 : b === "" ? -1 : a < b ? -1 : 1));
  if (terms.length === 0) return 0;
  if (terms.length === 1 && terms[0]![0] === "") return terms[0]![1];
  return terms
    .map(([monomial, coefficient]) => (monomial === "" ? `${coefficient}` : coefficient === 1 ? monomial : `${coefficient}*${monomial}`))
    .join("+")
    .replaceAll("+-", "-");
}

/** The normal form of a size: `dim("1+T-1")` is `"T"`, `dim("S*B")` is `"B*S"`. Throws ShapeError for text that is no size. */
export function dim(value: Dim): Dim {
  return typeof value === "number" ? value : print(parse(value));
}

/** The sum of sizes, in normal form. */
export function dimAdd(...dims: readonly Dim[]): Dim {
  const sum = new Map<string, number>();
  for (const each of dims) for (const [monomial, coefficient] of parse(each)) sum.set(monomial, (sum.get(monomial) ?? 0) + coefficient);
  return print(sum);
}

/** The product of sizes, in normal form; 1 for none. */
export function dimMul(...dims: readonly Dim[]): Dim {
  let product: Map<string, number> = new Map([["", 1]]);
  for (const each of dims) {
    const next = new Map<string, number>();
    for (const [left, a] of product) {
      for (const [right, b] of parse(each)) {
        const monomial = [...symbolsOf(left), ...symbolsOf(right)].sort().join("*");
        next.set(monomial, (next.get(monomial) ?? 0) + a * b);
      }
    }
    product = next;
  }
  return print(product);
}

/** The number a size stands for once its symbols are known. Throws ShapeError for a symbol that `sizes` does not hold. */
export function dimValue(value: Dim, sizes: Readonly<Record<string, number>>): number {
  if (typeof value === "number") return value;
  let total = 0;
  for (const [monomial, coefficient] of parse(value)) {
    let term = coefficient;
    for (const symbol of symbolsOf(monomial)) {
      const size = sizes[symbol];
      if (size === undefined)
        throw new ShapeError(`size "${symbol}" in "${value}" is not known here; known: ${Object.keys(sizes).join(", ") || "none"}`);
      term *= size;
    }
    total += term;
  }
  return total;
}

/** A size's terms, for code that computes it at run time: `[coefficient, symbols]` each. */
export function dimTerms(value: Dim): readonly (readonly [coefficient: number, symbols: readonly string[]])[] {
  return [...parse(value)].map(([monomial, coefficient]) => [coefficient, symbolsOf(monomial)] as const);
}

function symbolsOf(monomial: string): readonly string[] {
  return monomial === "" ? [] : monomial.split("*");
}

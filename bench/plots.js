/** The bench's figures, drawn as those of `peft compare` are. */
import * as Plot from "@observablehq/plot";
import { built } from "./built.js";
import { median, ratiosOf } from "./report.js";

const { drawn, looksOf } = /** @type {typeof import("../src/compare/plots.js")} */ (await built("compare/plots.js"));

/** The look of a figure's only series. */
const only = { colour: "#0072B2", symbol: /** @type {const} */ ("circle") };

/** @typedef {{ readonly name: string, readonly svg: string, readonly title: string, readonly description: string }} Figure */

/**
 * Ratios of speed by case: the median, and from the lowest to the highest. None where no case has a peer.
 * @param {readonly import("./report.js").Result[]} results
 * @returns {readonly Figure[]}
 */
export function ratioPlot(results) {
  const points = results.flatMap((result) => {
    const ratios = ratiosOf(result);
    return ratios.length === 0 ? [] : [{ name: result.name, middle: median(ratios), low: Math.min(...ratios), high: Math.max(...ratios) }];
  });
  if (points.length === 0) return [];
  const described = points.map(({ name, middle }) => `${name} ${middle.toFixed(2)}`).join(", ");
  const figure = drawn("Rows a second against the peer", `Medians: ${described}.`, {
    ...{ width: 640, height: 70 + 20 * points.length, marginLeft: 210, marginRight: 40 },
    x: { label: "times the peer's rows a second →", grid: true, zero: true, nice: true },
    y: { label: null, domain: points.map(({ name }) => name) },
    marks: [
      Plot.ruleX([1], { stroke: "#666", strokeDasharray: "4 3" }),
      Plot.ruleY(points, { y: "name", x1: "low", x2: "high", stroke: only.colour, strokeWidth: 2 }),
      Plot.dot(points, { y: "name", x: "middle", fill: only.colour, r: 4 }),
      Plot.text(points, { y: "name", x: "high", text: ({ middle }) => middle.toFixed(2), dx: 6, textAnchor: "start", fill: "#222" }),
    ],
  });
  return [{ name: "ratios", ...figure }];
}

/**
 * How a figure grows with each quantity, as multiples of its value at 1×, on logarithmic axes; what grows with the quantity follows the broken line.
 * @param {string} name of the file
 * @param {string} title
 * @param {readonly { readonly quantity: string, readonly times: number, readonly value: number }[]} points
 * @returns {Figure}
 */
export function growthPlot(name, title, points) {
  const quantities = [...new Set(points.map(({ quantity }) => quantity))];
  const looks = looksOf(quantities);
  const lines = quantities.map((quantity) => {
    const own = points.filter((point) => point.quantity === quantity);
    return own.map((point) => ({ ...point, value: point.value / (own[0]?.value ?? Number.NaN) }));
  });
  const described = lines.map((line) => `${line[0]?.quantity} ${line.at(-1)?.value.toFixed(2)}`).join(", ");
  const figure = drawn(title, `At ${lines[0]?.at(-1)?.times}×, as multiples of 1×: ${described}.`, {
    marginRight: 110,
    x: { type: "log", label: "times the base value →", ticks: [1, 4, 16], tickFormat: (/** @type {number} */ each) => `${each}×` },
    y: { type: "log", label: `↑ ${title}, multiples of 1×`, grid: true, ticks: 5, tickFormat: "~r" },
    marks: [
      Plot.line([1, 16], { x: (each) => each, y: (each) => each, stroke: "#999", strokeDasharray: "4 3" }),
      ...lines.flatMap((line, i) => {
        const { colour, symbol } = looks.get(quantities[i] ?? "") ?? only;
        return [
          Plot.line(line, { x: "times", y: "value", stroke: colour, strokeWidth: 2 }),
          Plot.dot(line, { x: "times", y: "value", stroke: colour, symbol, fill: "white", r: 4 }),
          Plot.text(line.slice(-1), { x: "times", y: "value", text: "quantity", dx: 8, textAnchor: "start", fill: "#222" }),
        ];
      }),
    ],
  });
  return { name, ...figure };
}

/**
 * Resident memory over a training's steps.
 * @param {readonly { readonly step: number, readonly rss_bytes: number }[]} samples
 * @returns {Figure}
 */
export function memoryPlot(samples) {
  const mebibytes = samples.map(({ step, rss_bytes }) => ({ step, value: rss_bytes / 2 ** 20 }));
  const [first, last] = [mebibytes[0], mebibytes.at(-1)];
  const described = `${first?.value.toFixed(0)} MiB after ${first?.step} steps, ${last?.value.toFixed(0)} MiB after ${last?.step}.`;
  const figure = drawn("Resident memory over steps of varying shapes", described, {
    x: { label: "optimiser steps →", grid: true },
    y: { label: "↑ resident memory, MiB", grid: true, zero: true, nice: true },
    marks: [
      Plot.line(mebibytes, { x: "step", y: "value", stroke: only.colour, strokeWidth: 2 }),
      Plot.dot(mebibytes, { x: "step", y: "value", fill: only.colour, r: 2 }),
    ],
  });
  return { name: "memory", ...figure };
}

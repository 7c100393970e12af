import { bottleneck } from "./bottleneck.js";
import type { Child } from "./method.js";
import { type AdapterRun, affine, attachmentOn, layerSites, type Row } from "./sublayer.fixture.js";

export const D = 4;
export const sites = layerSites(2, D);

/** A frozen adapter layer with a bottleneck of `width`. */
export function adapter(name: string, width: number, fields: object = {}): Child {
  const config = { reduction_factor: D / width, non_linearity: "tanh", ...fields };
  return { name, trained: false, attachment: attachmentOn(sites, bottleneck, config) };
}

/** up(tanh(down(z))) of the adapter `name` at the last layer's end. */
export function alone(run: AdapterRun, name: string, width: number, z: Row): Row {
  const at = `${name}:bert.encoder.layer.1.output.adapters`;
  return affine(run, `${at}.adapter_up`, D, affine(run, `${at}.adapter_down.0`, width, z).map(Math.tanh));
}

/** The stand-in for the norm after the sum. */
export function N(x: Row): Row {
  return x.map(Math.tanh);
}

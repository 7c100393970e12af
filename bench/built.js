/**
 * A module of the build that the package does not export; its type is that of the source.
 * @param {string} path within dist
 */
export const built = (path) => import(new URL(`../dist/${path}`, import.meta.url).href);

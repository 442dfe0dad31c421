/** The URL is the view: search parameters in and out, tolerant of anything a person may have typed. */

export const RUN_TABS = [
  'overview', 'masks', 'predictions', 'system', 'logs', 'spec', 'artifacts', 'attempts',
] as const;
export type RunTab = (typeof RUN_TABS)[number];
export const X_AXES = ['iteration', 'images', 'device_seconds'] as const;
export type XAxis = (typeof X_AXES)[number];

export interface RunSearch {
  /** Absent means the overview. */
  tab?: RunTab;
  /** Chosen evaluation; absent means the newest, followed live. */
  it?: number;
  /** Index of the image in the validation split. */
  img?: number;
  /** Zoomed range of iterations, `from-to`. */
  z?: string;
  /** `raw` when averages are off. */
  s?: 'raw';
}

export interface RunsSearch {
  q?: string;
  state?: string;
  sel?: string;
}

export interface CompareSearch {
  jobs?: string;
  x?: XAxis;
  it?: number;
  img?: number;
  z?: string;
}

const text = (raw: unknown): string | undefined =>
  (typeof raw === 'string' || typeof raw === 'number') && String(raw) !== '' ? String(raw) : undefined;

function whole(raw: unknown): number | undefined {
  const number = typeof raw === 'number' ? raw : typeof raw === 'string' && raw.trim() !== '' ? Number(raw) : NaN;
  return Number.isInteger(number) && number >= 0 ? number : undefined;
}

const oneOf = <T extends string>(raw: unknown, allowed: readonly T[]): T | undefined =>
  allowed.find((item) => item === raw);

/** Drops the absent entries, so that defaults never show in the address. */
function tidy<T extends object>(search: T): T {
  return Object.fromEntries(Object.entries(search).filter(([, item]) => item !== undefined)) as T;
}

export function parseRunSearch(raw: Record<string, unknown>): RunSearch {
  const tab = oneOf(raw.tab, RUN_TABS);
  return tidy({
    tab: tab === 'overview' ? undefined : tab,
    it: whole(raw.it),
    img: whole(raw.img),
    z: parseZoom(raw.z) ? String(raw.z) : undefined,
    s: raw.s === 'raw' ? 'raw' : undefined,
  });
}

export const parseRunsSearch = (raw: Record<string, unknown>): RunsSearch =>
  tidy({ q: text(raw.q), state: text(raw.state), sel: text(raw.sel) });

/** `?from=job` starts a new run from another one's spec; `?example=` from a built-in one, `?recipe=` from a paper's row. */
export interface NewSearch {
  from?: string;
  example?: string;
  dataset?: string;
  recipe?: string;
}

export const parseNewSearch = (raw: Record<string, unknown>): NewSearch =>
  tidy({ from: text(raw.from), example: text(raw.example), dataset: text(raw.dataset), recipe: text(raw.recipe) });

/** `?name=street` opens one entry of a list. */
export const parseNameSearch = (raw: Record<string, unknown>): { name?: string } => tidy({ name: text(raw.name) });

export function parseCompareSearch(raw: Record<string, unknown>): CompareSearch {
  const x = oneOf(raw.x, X_AXES);
  return tidy({
    jobs: text(raw.jobs),
    x: x === 'iteration' ? undefined : x,
    it: whole(raw.it),
    img: whole(raw.img),
    z: parseZoom(raw.z) ? String(raw.z) : undefined,
  });
}

/** `100-900` as a range; null when it is none. */
export function parseZoom(raw: unknown): [number, number] | null {
  const match = typeof raw === 'string' ? /^(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)$/.exec(raw) : null;
  if (!match) return null;
  const range: [number, number] = [Number(match[1]), Number(match[2])];
  return range[0] < range[1] ? range : null;
}

export const formatZoom = (range: readonly [number, number] | null): string | undefined =>
  range ? `${Math.max(0, Math.round(range[0]))}-${Math.round(range[1])}` : undefined;

/** A comma list without blanks or repeats. */
export const names = (list: string | undefined): string[] => [
  ...new Set((list ?? '').split(',').map((item) => item.trim()).filter(Boolean)),
];

/** Plain parameters in the address (`?it=4200&img=17`), not JSON. */
export function parseSearch(search: string): Record<string, string> {
  return Object.fromEntries(new URLSearchParams(search));
}

export function stringifySearch(search: Record<string, unknown>): string {
  const entries = Object.entries(search)
    .filter(([, item]) => item !== undefined && item !== null && item !== '')
    .map(([key, item]) => `${encodeURIComponent(key)}=${encodeURIComponent(String(item)).replaceAll('%2C', ',')}`);
  return entries.length ? `?${entries.join('&')}` : '';
}

/** Colour = method, everywhere (Okabe-Ito). The student alone is grey, the teacher is ink and dashed. */

const METHODS: Record<string, string> = {
  acam: '#0072B2',
  logit: '#E69F00',
  feature_mse: '#009E73',
  feature_mse_matched: '#009E73',
  cwd: '#D55E00',
  mgd: '#CC79A7',
  pkd: '#56B4E9',
  maskd: '#7A5195',
  fgd: '#A6761D',
  cankd: '#882255',
  crosskd: '#AA4499',
  freekd: '#117733',
  diffkd: '#332288',
};
export const ALONE = '#8A8F98';

/** The colour of a run: its first distillation term's method, grey for a student alone. */
export function runColor(methods: readonly string[]): string {
  const first = methods[0];
  if (!first || first === 'none') return ALONE;
  return METHODS[first] ?? '#5B6C5D';
}

/** The colour of a loss term: the supervised loss is grey, a method's terms are shades of its colour, by their order. */
export function termColor(term: string, methods: readonly string[], order: number): string {
  if (term === 'task') return ALONE;
  if (term === 'aux') return mix(ALONE, 0.4);
  const own = Object.keys(METHODS)
    .sort((a, b) => b.length - a.length)
    .find((name) => term.startsWith(name));
  return mix(own ? METHODS[own]! : runColor(methods), Math.min(0.66, 0.33 * order));
}

/** A hex colour moved towards white by `share`. */
export function mix(hex: string, share: number): string {
  const part = (at: number) => parseInt(hex.slice(at, at + 2), 16);
  const lift = (channel: number) => Math.round(channel + (255 - channel) * share);
  return `rgb(${lift(part(1))}, ${lift(part(3))}, ${lift(part(5))})`;
}

export function alpha(color: string, opacity: number): string {
  if (color.startsWith('rgb(')) return color.replace('rgb(', 'rgba(').replace(')', `, ${opacity})`);
  const part = (at: number) => parseInt(color.slice(at, at + 2), 16);
  return `rgba(${part(1)}, ${part(3)}, ${part(5)}, ${opacity})`;
}

/** Cividis at 0, 0.25, 0.5, 0.75 and 1, for the legend of a mask (the masks themselves are drawn by the worker). */
export const CIVIDIS = ['#00224E', '#434E6C', '#7D7C78', '#BCAE6C', '#FEE838'];

/** Pictures of a run, found by evaluation and image. */

export interface Panel {
  artifact: string;
  iteration: number;
  image: number;
  kind: string;
  index: number;
  caption: string;
  attempt: number;
  stats?: Record<string, number>;
}

export interface PanelIndex<T extends Panel = Panel> {
  /** Iterations that have predictions or masks, ascending. */
  iterations: number[];
  /** Indices of the fixed validation images. */
  images: number[];
  find: (iteration: number, image: number, kind: string, index?: number) => T | undefined;
  masks: (iteration: number, image: number, kind?: string) => T[];
}

/** Image, truth and teacher are drawn once, so the picture of the first evaluation stands for the later ones. */
const ONCE = new Set(['image', 'truth', 'teacher']);

/** After a resume the same picture may exist twice: the later attempt's counts. */
export function indexPanels<T extends Panel>(panels: readonly T[]): PanelIndex<T> {
  const byPlace = new Map<string, T[]>();
  const once = new Map<string, T>();
  for (const panel of [...panels].sort((a, b) => a.attempt - b.attempt)) {
    const place = `${panel.iteration}/${panel.image}/${panel.kind}`;
    const twin = (item: T) => item.index === panel.index && item.caption === panel.caption;
    byPlace.set(place, [...(byPlace.get(place) ?? []).filter((item) => !twin(item)), panel]);
    if (ONCE.has(panel.kind)) once.set(`${panel.image}/${panel.kind}`, panel);
  }
  const ascending = (values: number[]) => [...new Set(values)].sort((a, b) => a - b);
  const at = (iteration: number, image: number, kind: string) => byPlace.get(`${iteration}/${image}/${kind}`) ?? [];
  return {
    iterations: ascending(panels.filter((panel) => !ONCE.has(panel.kind)).map((panel) => panel.iteration)),
    images: ascending(panels.map((panel) => panel.image)),
    find: (iteration, image, kind, index = 0) =>
      at(iteration, image, kind).find((panel) => panel.index === index) ?? once.get(`${image}/${kind}`),
    masks: (iteration, image, kind = 'mask_spatial') =>
      [...at(iteration, image, kind)].sort((a, b) => a.caption.localeCompare(b.caption, 'en', { numeric: true }) || a.index - b.index),
  };
}

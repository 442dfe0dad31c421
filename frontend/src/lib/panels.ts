/** Pictures of a run at one evaluation, found by image and kind. */

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

export interface PanelSet<T extends Panel = Panel> {
  find: (image: number, kind: string, index?: number) => T | undefined;
  masks: (image: number, kind?: string) => T[];
}

/** Image, truth and teacher are drawn once, so the picture of the first evaluation stands for the later ones. */
export const isDrawnOnce = (kind: string): boolean => ['image', 'truth', 'teacher'].includes(kind);

/** Pictures by image and kind. The same picture may be in several lists (those drawn once, the evaluation before,
 * the evaluation on show), or be there from two attempts: the last list counts, and in it the later attempt. */
export function panelSet<T extends Panel>(...lists: readonly (readonly T[])[]): PanelSet<T> {
  const byPlace = new Map<string, T[]>();
  for (const panel of lists.flatMap((list) => [...list].sort((a, b) => a.attempt - b.attempt))) {
    const place = `${panel.image}/${panel.kind}`;
    const twin = (item: T) => item.index === panel.index && item.caption === panel.caption;
    byPlace.set(place, [...(byPlace.get(place) ?? []).filter((item) => !twin(item)), panel]);
  }
  const at = (image: number, kind: string) => byPlace.get(`${image}/${kind}`) ?? [];
  return {
    find: (image, kind, index = 0) => at(image, kind).find((panel) => panel.index === index),
    masks: (image, kind = 'mask_spatial') =>
      [...at(image, kind)].sort((a, b) => a.caption.localeCompare(b.caption, 'en', { numeric: true }) || a.index - b.index),
  };
}

/** Where a run has pictures, after one more has come. */
export function withPlace<T extends { iterations: number[]; images: number[] }>(index: T, panel: Pick<Panel, 'iteration' | 'image' | 'kind'>): T {
  const add = (list: number[], item: number) => (list.includes(item) ? list : [...list, item].sort((a, b) => a - b));
  const iterations = isDrawnOnce(panel.kind) ? index.iterations : add(index.iterations, panel.iteration);
  const images = add(index.images, panel.image);
  return iterations === index.iterations && images === index.images ? index : { ...index, iterations, images };
}

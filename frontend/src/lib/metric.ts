/** What a task is judged by: the one place that knows the name of its primary metric. */

export interface PrimaryMetric {
  /** Its name after the slash of `val/`, `best/`, `test/` and `teacher/`. */
  key: string;
  label: string;
  /** What the same metric of a single class is called. */
  perClass: string;
}

const TASKS: Record<string, PrimaryMetric> = {
  semantic_segmentation: { key: 'miou', label: 'mIoU', perClass: 'IoU' },
  detection: { key: 'map', label: 'mAP', perClass: 'AP' },
  classification: { key: 'top1', label: 'top-1', perClass: 'Accuracy' },
};

export const primaryMetric = (task: string | null | undefined): PrimaryMetric =>
  TASKS[task ?? ''] ?? TASKS.semantic_segmentation!;

/** Names of the primary metrics of all tasks, under a prefix: what is asked for before the task is known. */
export const primaryNames = (prefix: string): string =>
  Object.values(TASKS).map(({ key }) => `${prefix}/${key}`).join(',');

/** The heading of a column over jobs that may be of several tasks. */
export function sharedLabel(tasks: readonly (string | null | undefined)[]): string {
  const labels = new Set(tasks.filter((task) => task != null).map((task) => primaryMetric(task).label));
  return labels.size > 1 ? 'Score' : ([...labels][0] ?? primaryMetric(null).label);
}

/** The server's problems at the fields they name. */
import type { ErrorInfo } from '@/api/types';

export interface ErrorTree {
  __errors?: string[];
  [key: string]: ErrorTree | string[] | undefined;
}

export const sentence = (info: Pick<ErrorInfo, 'message' | 'hint'>): string =>
  info.hint ? `${info.message} (${info.hint})` : info.message;

/** `distill.0.at` becomes `{distill: {0: {at: {__errors: [...]}}}}`, which is what the form reads. */
export function errorTree(problems: readonly ErrorInfo[]): ErrorTree {
  const root: ErrorTree = {};
  for (const problem of problems) {
    let node = root;
    for (const key of problem.field?.split('.') ?? []) node = (node[key] ??= {}) as ErrorTree;
    (node.__errors ??= []).push(sentence(problem));
  }
  return root;
}

/** Everything below a node on one level: a field in its short form stands for all its inner fields. */
export function flatten(tree: ErrorTree | undefined): string[] {
  if (!tree) return [];
  const { __errors: own = [], ...below } = tree;
  return [...own, ...Object.values(below).flatMap((node) => flatten(node as ErrorTree))];
}

/** How many problems lie at or below a path. */
export const countBelow = (problems: readonly ErrorInfo[], path: string): number =>
  problems.filter(({ field }) => field === path || field?.startsWith(`${path}.`)).length;

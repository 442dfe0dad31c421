/** What the form's parts need beside their own value. */
import type { FieldOrigin } from '@/api/types';
import type { ErrorInfo } from '@/api/types';
import { value } from '@/lib/format';
import type { Picks } from './picks';

export interface SpecContext {
  picks: Picks;
  /** The last dry run's resolved values, by dotted path. */
  origins: ReadonlyMap<string, FieldOrigin>;
  problems: readonly ErrorInfo[];
}

export const ID = { idPrefix: 'spec', idSeparator: '.' } as const;

/** `spec.optimizer.lr` to `optimizer.lr`. */
export const pathOf = (id: string): string => id.slice(ID.idPrefix.length + 1);

/** What an empty field stands for: the resolved value where there is one, else the schema's default. */
export function standsFor(context: SpecContext | undefined, id: string, fallback: unknown): string {
  const origin = context?.origins.get(pathOf(id));
  if (origin && origin.origin !== 'given') {
    if (origin.value === null) return origin.origin === 'automatic' ? 'automatic' : '';
    return value(origin.value);
  }
  return fallback === undefined || fallback === null ? '' : value(fallback);
}

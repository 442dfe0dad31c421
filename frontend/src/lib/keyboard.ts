/** Keys as one character or name: `j`, `?`, `Escape`, `Space`. Modified keys are the browser's, never ours. */

type KeyLike = Pick<KeyboardEvent, 'key' | 'ctrlKey' | 'metaKey' | 'altKey'>;

export function keyName(event: KeyLike): string | null {
  if (event.ctrlKey || event.metaKey || event.altKey) return null;
  return event.key === ' ' ? 'Space' : event.key;
}

/** Typing into a field must never trigger a shortcut; a button keeps Space and Enter. */
export function isTyping(target: EventTarget | null, key: string): boolean {
  if (!(target instanceof HTMLElement)) return false;
  if (target.isContentEditable || target.closest('[role="dialog"]')) return true;
  const tag = target.tagName;
  if (tag === 'INPUT') return (target as HTMLInputElement).type !== 'range' || key.startsWith('Arrow');
  if (tag === 'TEXTAREA' || tag === 'SELECT') return true;
  return (tag === 'BUTTON' || tag === 'A') && (key === 'Space' || key === 'Enter');
}

/** The neighbour of a position in a list, clamped; -1 stands for "nothing yet". */
export function step(position: number, by: number, length: number): number {
  if (length === 0) return -1;
  if (position < 0) return by > 0 ? 0 : length - 1;
  return Math.min(length - 1, Math.max(0, position + by));
}

/** The element after or before `current` in an ascending list, or the nearest one when it is not in it. */
export function neighbour(sorted: readonly number[], current: number, by: 1 | -1): number | undefined {
  if (by > 0) return sorted.find((item) => item > current) ?? sorted.at(-1);
  return [...sorted].reverse().find((item) => item < current) ?? sorted[0];
}

/** One cursor and one zoom for everything on a page that runs over the same x. */
import { createContext, useContext, useSyncExternalStore } from 'react';

export class SharedCursor {
  private x: number | null = null;
  private readonly listeners = new Set<() => void>();

  readonly get = (): number | null => this.x;

  readonly set = (x: number | null): void => {
    if (x === this.x) return;
    this.x = x;
    this.listeners.forEach((listener) => listener());
  };

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };
}

export interface SharedView {
  cursor: SharedCursor;
  zoom: [number, number] | null;
  setZoom: (range: [number, number] | null) => void;
  /** Iteration chosen for masks and tables, marked on every chart. */
  chosen: number | null;
  choose: (x: number) => void;
}

export const SharedViewContext = createContext<SharedView | null>(null);

export function useSharedView(): SharedView {
  const view = useContext(SharedViewContext);
  if (!view) throw new Error('no SharedViewContext above');
  return view;
}

/** The x under the pointer in any chart of the page, or null. */
export function useCursorX(): number | null {
  const { cursor } = useSharedView();
  return useSyncExternalStore(cursor.subscribe, cursor.get);
}

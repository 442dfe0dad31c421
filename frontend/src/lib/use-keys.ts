import { useEffect, useRef } from 'react';
import { isTyping, keyName } from './keyboard';

export type KeyMap = Record<string, (event: KeyboardEvent) => void>;

/** Single keys for as long as the component is mounted. Fields, dialogs and modified keys are left alone. */
export function useKeys(map: KeyMap): void {
  const current = useRef(map);
  useEffect(() => {
    current.current = map;
  });
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      const key = keyName(event);
      const action = key === null ? undefined : current.current[key];
      if (!action || isTyping(event.target, key!) || event.defaultPrevented) return;
      event.preventDefault();
      action(event);
    };
    window.addEventListener('keydown', onKey);
    return () => window.removeEventListener('keydown', onKey);
  }, []);
}

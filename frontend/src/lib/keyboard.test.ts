// @vitest-environment happy-dom
import { expect, it } from 'vitest';
import { isTyping, keyName, neighbour, step } from './keyboard';

const key = (name: string, extra = {}) => ({ key: name, ctrlKey: false, metaKey: false, altKey: false, ...extra });

it('leaves modified keys to the browser', () => {
  expect(keyName(key('j'))).toBe('j');
  expect(keyName(key(' '))).toBe('Space');
  expect(keyName(key('c', { ctrlKey: true }))).toBeNull();
});

it('stays silent while somebody types, and lets a button keep its space', () => {
  document.body.innerHTML =
    '<input id="text"><input id="slide" type="range"><button id="button"></button><div role="dialog"><p id="in"></p></div><p id="out"></p>';
  const at = (id: string) => document.getElementById(id);
  expect(isTyping(at('text'), 'j')).toBe(true);
  expect(isTyping(at('slide'), '[')).toBe(false);
  expect(isTyping(at('slide'), 'ArrowLeft')).toBe(true);
  expect(isTyping(at('button'), 'Space')).toBe(true);
  expect(isTyping(at('button'), 'j')).toBe(false);
  expect(isTyping(at('in'), 'j')).toBe(true);
  expect(isTyping(at('out'), 'j')).toBe(false);
});

it('moves within a list', () => {
  expect([step(-1, 1, 3), step(-1, -1, 3), step(2, 1, 3), step(0, -1, 3), step(1, 1, 0)]).toEqual([0, 2, 2, 0, -1]);
});

it('moves between evaluations from anywhere', () => {
  expect(neighbour([100, 200, 300], 200, 1)).toBe(300);
  expect(neighbour([100, 200, 300], 150, -1)).toBe(100);
  expect(neighbour([100, 200, 300], 300, 1)).toBe(300);
  expect(neighbour([], 5, 1)).toBeUndefined();
});

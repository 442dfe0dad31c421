import { expect, it } from 'vitest';
import { aliasProblem, byName } from './group';

it('puts versions under their name, newest first', () => {
  const models = [{ name: 'b', version: 1 }, { name: 'a', version: 1 }, { name: 'b', version: 2 }];
  expect(byName(models)).toEqual([
    { name: 'b', versions: [{ name: 'b', version: 2 }, { name: 'b', version: 1 }] },
    { name: 'a', versions: [{ name: 'a', version: 1 }] },
  ]);
});

it('refuses what the server refuses as an alias', () => {
  expect(aliasProblem('champion')).toBeNull();
  for (const alias of ['latest', '2nd', 'With Space', 'a'.repeat(41)]) expect(aliasProblem(alias), alias).not.toBeNull();
});

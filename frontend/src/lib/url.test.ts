import { expect, it } from 'vitest';
import { formatZoom, names, parseCompareSearch, parseRunSearch, parseSearch, parseZoom, stringifySearch } from './url';

it('reads a run view from its address and writes the same address', () => {
  const address = '?tab=masks&it=4200&img=17&z=100-900';
  const view = parseRunSearch(parseSearch(address));
  expect(view).toEqual({ tab: 'masks', it: 4200, img: 17, z: '100-900' });
  expect(stringifySearch({ ...view })).toBe(address);
});

it('drops what is not a view', () => {
  expect(parseRunSearch(parseSearch('?tab=nonsense&it=-3&img=1.5&z=9-2&s=smooth&x=1'))).toEqual({});
  expect(parseRunSearch({ tab: 'overview', it: '' })).toEqual({});
  expect(parseRunSearch({ it: '0' })).toEqual({ it: 0 });
});

it('keeps the list of compared runs readable', () => {
  const view = parseCompareSearch(parseSearch('?jobs=a,b&x=device_seconds'));
  expect(view).toEqual({ jobs: 'a,b', x: 'device_seconds' });
  expect(stringifySearch({ ...view })).toBe('?jobs=a,b&x=device_seconds');
  expect(names('a, b,,a')).toEqual(['a', 'b']);
});

it('zooms', () => {
  expect(parseZoom('10-20')).toEqual([10, 20]);
  expect(parseZoom('20-10')).toBeNull();
  expect(formatZoom([-4.2, 99.6])).toBe('0-100');
  expect(formatZoom(null)).toBeUndefined();
});

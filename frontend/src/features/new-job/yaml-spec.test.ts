import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { collapse, expand } from './short-forms';
import { applyForm, asForm, difference, parseSpec } from './yaml-spec';

const TEXT = `# my run
dataset: scenes # built in
teacher: job:t
student: {arch: deeplabv3-resnet18}
distill: acam
seed: 0
`;
const edit = (text: string, change: (form: Record<string, any>) => void): string => { // eslint-disable-line @typescript-eslint/no-explicit-any
  const before = asForm(parseSpec(text).data!);
  const after = structuredClone(before);
  change(after);
  return applyForm(text, before, after);
};

describe('form to YAML', () => {
  it('changes one line and keeps comments, order and short forms', () => {
    expect(edit(TEXT, (form) => (form.seed = 7))).toBe(TEXT.replace('seed: 0', 'seed: 7'));
  });

  it('leaves the text alone when nothing changed', () => {
    expect(edit(TEXT, () => undefined)).toBe(TEXT);
  });

  it('writes a short form out only where the change is inside it', () => {
    const text = edit(TEXT, (form) => (form.distill = [{ method: 'acam', weight: 2 }]));
    expect(parse(text)).toEqual({ ...parse(TEXT), distill: [{ method: 'acam', weight: 2 }] });
    expect(text).toContain('# built in');
  });

  it('adds a section with its field, and takes it away with its last one', () => {
    const with_ = edit(TEXT, (form) => (form.optimizer = { lr: 0.01 }));
    expect(parse(with_).optimizer).toEqual({ lr: 0.01 });
    expect(edit(with_, (form) => (form.optimizer.lr = undefined))).toBe(TEXT);
  });

  it('quotes what YAML readers disagree about', () => {
    for (const name of ['off', 'yes', '1_000', '1:30', '012', '0x1f']) {
      const text = edit('seed: 1\n', (form) => (form.name = name));
      expect(text).toContain(`name: "${name}"`);
      expect(edit('name: a\n', (form) => (form.name = name))).toBe(`name: "${name}"\n`);
    }
  });

  it('keeps an entry of a list in its place', () => {
    const text = 'distill:\n  - method: logit # first\n  - method: acam\n';
    expect(edit(text, (form) => (form.distill[1].masks = 6))).toBe(`${text}    masks: 6\n`);
  });

  it('finds the smallest change', () => {
    expect(difference({ a: { b: 1, c: [1, 2] } }, { a: { b: 1, c: [1, 3], d: undefined } })).toEqual([
      { path: ['a', 'c'], value: [1, 3] },
    ]);
  });
});

describe('YAML to form', () => {
  it('refuses duplicate keys and broken text with a line', () => {
    expect(parseSpec('seed: 1\nseed: 2\n').error).toMatch(/unique.*line 2/i);
    expect(parseSpec('a: {b: 1\n').data).toBeNull();
    expect(parseSpec('- a\n').error).toMatch(/mapping/);
    expect(parseSpec('').data).toEqual({});
  });

  it('reads single terms as lists', () => {
    expect(asForm({ distill: 'acam', exports: { format: 'onnx' } })).toEqual({
      distill: ['acam'], exports: [{ format: 'onnx' }],
    });
  });
});

describe('short forms', () => {
  it.each([
    ['dataset', 'scenes', { format: 'scenes' }, 'format'],
    ['dataset', 'dataset:street@3f', { format: 'registered', name: 'street@3f' }, 'format'],
    ['dataset', './camvid', { format: 'auto', root: './camvid' }, 'format'],
    ['student', 'deeplabv3-resnet18', { arch: 'deeplabv3-resnet18' }, undefined],
    ['student', 'model:a@champion', { weights: 'model:a@champion' }, undefined],
    ['teacher', 'job:t', { weights: 'job:t' }, undefined],
    ['weights', 'torchvision:X.Y', { torchvision: 'X.Y' }, undefined],
    ['weights', 'a/b.pth', { file: 'a/b.pth' }, undefined],
    ['distill', 'acam', { method: 'acam' }, 'method'],
  ])('%s %s goes there and back', (field, text, object, tag) => {
    expect(expand(field, text, tag)).toEqual(object);
    expect(collapse(field, object, tag)).toBe(text);
  });

  it('does not shorten what says more', () => {
    expect(collapse('dataset', { format: 'scenes', seed: 1 }, 'format')).toBeNull();
    expect(collapse('teacher', { weights: 'job:t', expect: { miou: 60 } })).toBeNull();
    expect(collapse('weights', { file: 'a.pth', layout: 'cirkd' })).toBeNull();
  });
});

import { describe, expect, it } from 'vitest';
import { countedIn, images, percent, share, sides, type ClassRow } from './report';
import { nameFromFile, nameProblem, nextUpload, type UploadState } from './upload-state';

describe('an upload', () => {
  it('is sent, then unpacked, then done', () => {
    let state: UploadState = nextUpload({ step: 'idle' }, { kind: 'start', total: 10 });
    state = nextUpload(state, { kind: 'sent', sent: 4, total: 10 });
    expect(state).toEqual({ step: 'sending', sent: 4, total: 10 });
    state = nextUpload(state, { kind: 'sent', sent: 10, total: 10 });
    expect(state.step).toBe('unpacking');
    expect(nextUpload(state, { kind: 'ended' }).step).toBe('idle');
  });

  it('stays refused when a late report of progress comes', () => {
    const refused = nextUpload({ step: 'unpacking' }, { kind: 'refused', message: 'a path with ..' });
    expect(nextUpload(refused, { kind: 'sent', sent: 5, total: 10 })).toEqual({ step: 'refused', message: 'a path with ..' });
  });

  it('proposes a name that the server takes', () => {
    for (const file of ['My Street (v2).zip', '__MACOSX.zip', 'Straße.zip', 'a'.repeat(200) + '.zip']) {
      expect(nameProblem(nameFromFile(file)), file).toBeNull();
    }
    expect(nameFromFile('My Street (v2).zip')).toBe('my-street-v2');
    expect(nameProblem('Upper')).not.toBeNull();
  });
});

describe('a report', () => {
  const rows: ClassRow[] = [
    { id: 0, name: 'sky', color: [0, 0, 0], pixels: { train: 750 }, images: {} },
    { id: 1, name: 'car', color: [0, 0, 0], pixels: { train: 250 }, images: {} },
  ];
  it('gives shares of a split, and none of an empty one', () => {
    expect(share(rows[1]!, rows, 'train')).toBe(25);
    expect(share(rows[1]!, rows, 'test')).toBe(0);
    const counted = rows.map((row, index) => ({ ...row, images: { train: index ? 30 : 10 } }));
    expect(share(counted[1]!, counted, 'train', countedIn('classification'))).toBe(75);
    expect(share(counted[1]!, counted, 'train', countedIn('semantic_segmentation'))).toBe(25);
  });
  it('keeps rare classes visible', () => {
    expect([0, 0.0004, 0.0123, 1.234, 56.78].map(percent)).toEqual(['0 %', '<0.001 %', '0.012 %', '1.23 %', '56.8 %']);
  });
  it('says the sides of objects, the last ones without an end', () => {
    expect([{ side: 32, below: 64, boxes: {} }, { side: 384, below: null, boxes: {} }].map(sides)).toEqual(['32 to 64', '384 and more']);
  });
  it('orders the splits by use', () => {
    expect(images({ test: 3, train: 1, val: 2, unlabelled: 9 })).toBe('1 / 2 / 3 + 9 unlabelled');
    expect(images({})).toBe('–');
  });
});

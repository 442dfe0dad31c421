import { describe, expect, it } from 'vitest';
import { errorSigns } from './error-key';

const meanings = (task: string, taught: boolean) => errorSigns(task, taught).map(([, meaning]) => meaning);

describe('the key of error pictures', () => {
  it('speaks of the teacher only where there is one', () => {
    for (const task of ['detection', 'classification', 'semantic_segmentation']) {
      expect(meanings(task, false).join()).not.toContain('teacher');
      expect(meanings(task, true).join()).toContain('teacher');
    }
  });

  it('has every meaning once', () => {
    for (const task of ['detection', 'classification', 'semantic_segmentation'])
      expect(new Set(meanings(task, true)).size).toBe(meanings(task, true).length);
  });
});

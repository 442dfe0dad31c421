import { expect, it } from 'vitest';
import { optionRows } from './options';

it('reads options, bounds and defaults from a schema', () => {
  const rows = optionRows(
    {
      required: ['at'],
      properties: {
        method: { const: 'x' },
        at: { type: 'array', items: { type: 'string' } },
        norm: { enum: ['sum', 'sum_sq'], default: 'sum_sq', description: 'Denominator.' },
        masks: { type: 'integer', minimum: 1, maximum: 256, description: 'automatic: 6' },
        weight: { type: 'number', minimum: 0, default: 3, description: 'Automatic: 3 on class scores, 50 on features.' },
        lr: { type: 'number', exclusiveMinimum: 0, default: 0.5 },
      },
    },
    'method',
  );
  expect(rows.map(({ name, kind, standard }) => [name, kind, standard])).toEqual([
    ['at', 'list of string', 'required'],
    ['norm', 'sum | sum_sq', 'sum_sq'],
    ['masks', 'integer 1..256', 'automatic'],
    ['weight', 'number 0..', 'automatic'],
    ['lr', 'number >0..', '0.5'],
  ]);
});

import ajv from '@rjsf/validator-ajv8';
import { describe, expect, it } from 'vitest';
import openapi from '../../../openapi.json';
import { dereference, draw, drawObject, members, type Node } from './form-schema';
import { listText, mappingText, parseList, parseMapping } from './fields';

// The schemas of the spec as the server publishes them; the form's own endpoint serves the same, without null branches.
const schemas = (openapi as unknown as { components: { schemas: Record<string, Node> } }).components.schemas;
const root = JSON.parse(
  JSON.stringify({ ...schemas.JobSpec, $defs: schemas }).replaceAll('#/components/schemas/', '#/$defs/'),
) as Node;

describe('the form drawn from the schema', () => {
  const whole = dereference(root);

  it('has no reference left, and every field of the spec', () => {
    expect(JSON.stringify(whole)).not.toContain('"$ref"');
    expect(Object.keys(drawObject(whole).schema.properties!)).toEqual(Object.keys(schemas.JobSpec!.properties as Node));
  });

  it('offers every method, and each choice is a valid term for an independent validator', () => {
    const term = (whole.properties as Record<string, Node>).distill!.items as Node;
    const union = members(term)!;
    expect(union.tag).toBe('method');
    expect(Object.keys(union.options)).toEqual(expect.arrayContaining(['acam', 'logit', 'feature_mse']));
    for (const [kind, option] of Object.entries(union.options)) {
      expect(ajv.isValid(option, { method: kind }, option), kind).toBe(true);
      expect(ajv.isValid(option, { method: kind, no_such_option: 1 }, option), kind).toBe(false);
    }
  });

  it('draws lists, unions, short forms and fixed values by rule', () => {
    const ui = drawObject(whole).ui;
    expect(ui.dataset['ui:field']).toBe('short');
    expect(ui.distill['ui:field']).toBe('terms');
    expect(ui.tags['ui:field']).toBe('list');
    expect(ui.kind['ui:widget']).toBe('hidden');
  });

  it('draws free names to values as one line', () => {
    const onnx = (whole.properties as Record<string, Node>).teacher as Node;
    const teacher = (onnx.anyOf as Node[]).find((option) => option.type === 'object')!;
    const described = ((teacher.properties as Record<string, Node>).onnx!.anyOf as Node[])[0]!;
    expect(drawObject(described).ui.features['ui:field']).toBe('mapping');
    expect(draw('map', { anyOf: [{ const: 'by_name' }, { type: 'object' }] }).ui['ui:field']).toBe('mapping');
  });

  it('joins choices that the schema splits', () => {
    const drawn = draw('backbone', { anyOf: [{ enum: ['a', 'b'], type: 'string' }, { const: 'c', type: 'string' }] });
    expect(drawn.schema).toMatchObject({ type: 'string', enum: ['a', 'b', 'c'] });
  });

  it('suggests choices where any text of a form is one too', () => {
    const free = { type: 'string', pattern: '^x:', examples: ['x:d'] };
    const { schema } = draw('backbone', { anyOf: [{ enum: ['a', 'b'], type: 'string' }, free] });
    expect(schema).toMatchObject({ type: 'string', examples: ['a', 'b', 'x:d'] });
    expect(schema).not.toHaveProperty('anyOf');
  });
});

describe('plain lists on one line', () => {
  it.each([
    ['12, 24, 36', [12, 24, 36]],
    ['logits, c4', ['logits', 'c4']],
    ['[0, 1.5], [10, 2]', [[0, 1.5], [10, 2]]],
  ])('%s', (text, list) => {
    expect(parseList(text)).toEqual(list);
    expect(parseList(listText(list))).toEqual(list);
  });

  it('takes nothing as absent', () => expect(parseList(' ')).toBeUndefined());
});

describe('a mapping on one line', () => {
  it.each([
    ['{ stem: c2, /layer4/Relu: c5 }', { stem: 'c2', '/layer4/Relu': 'c5' }],
    ['by_name', 'by_name'],
    ['{ car: vehicle, "traffic light": sign }', { car: 'vehicle', 'traffic light': 'sign' }],
  ])('%s', (text, value) => {
    expect(parseMapping(text)).toEqual(value);
    expect(parseMapping(mappingText(value))).toEqual(value);
  });

  it('needs no braces, and takes nothing as absent', () => {
    expect(parseMapping('stem: c2, body: c3')).toEqual({ stem: 'c2', body: 'c3' });
    expect(parseMapping(' ')).toBeUndefined();
    expect(parseMapping('{stem: ')).toBe('{stem: ');
  });
});

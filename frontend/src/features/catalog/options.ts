/** A JSON schema's properties as rows of a table. */
export interface OptionRow {
  name: string;
  kind: string;
  standard: string;
  help: string;
}
type Node = Record<string, unknown>;

export function optionRows(schema: Node, tag: string): OptionRow[] {
  const properties = (schema.properties ?? {}) as Record<string, Node>;
  const required = (schema.required ?? []) as string[];
  return Object.entries(properties)
    .filter(([name]) => name !== tag)
    .map(([name, node]) => ({
      name,
      kind: kindOf(node),
      standard: standardOf(node, required.includes(name)),
      help: String(node.description ?? ''),
    }));
}

function kindOf(node: Node): string {
  if (Array.isArray(node.enum)) return node.enum.join(' | ');
  if (Array.isArray(node.anyOf)) return (node.anyOf as Node[]).map(kindOf).join(' | ');
  if (node.const !== undefined) return String(node.const);
  if (node.type === 'array') {
    const items = node.items;
    const inner = Array.isArray(items) ? (items as Node[]).map(kindOf).join(', ') : items ? kindOf(items as Node) : '';
    return `list of ${inner || 'values'}`;
  }
  if (typeof node.$ref === 'string') return 'object';
  const low = node.minimum ?? (node.exclusiveMinimum === undefined ? undefined : `>${node.exclusiveMinimum}`);
  const high = node.maximum ?? (node.exclusiveMaximum === undefined ? undefined : `<${node.exclusiveMaximum}`);
  const range = low === undefined && high === undefined ? '' : ` ${low ?? ''}..${high ?? ''}`;
  return `${String(node.type ?? 'value')}${range}`;
}

function standardOf(node: Node, required: boolean): string {
  if (required) return 'required';
  // A default that depends on the network is in the description, whatever the field starts from.
  if (/automatic/i.test(String(node.description))) return 'automatic';
  if (node.default === undefined) return '–';
  return typeof node.default === 'string' ? node.default : JSON.stringify(node.default);
}

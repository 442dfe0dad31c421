/** Versions under their name, newest first; names by their newest version. */
export interface Group<T> {
  name: string;
  versions: T[];
}

export function byName<T extends { name: string; version: number }>(models: readonly T[]): Group<T>[] {
  const groups = new Map<string, T[]>();
  for (const model of models) groups.set(model.name, [...(groups.get(model.name) ?? []), model]);
  return [...groups].map(([name, versions]) => ({ name, versions: versions.sort((a, b) => b.version - a.version) }));
}

/** What the server accepts as an alias; `latest` is its own. */
export function aliasProblem(alias: string): string | null {
  if (alias === '') return null;
  if (alias === 'latest') return 'latest always names the newest version';
  return /^[a-z][a-z0-9._-]{0,39}$/.test(alias) ? null : 'lower-case letters, digits, . _ -, starting with a letter';
}

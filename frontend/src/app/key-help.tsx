import { Modal } from '@mantine/core';

const KEYS: [string, [string, string][]][] = [
  ['Everywhere', [['Ctrl K', 'go to a page or a run'], ['n', 'new run'], ['y', 'copy the address of this view'], ['?', 'this list']]],
  ['Runs', [['/', 'filter'], ['j k', 'down, up'], ['x', 'select'], ['Enter', 'open'], ['c', 'compare the selected']]],
  [
    'A run',
    [
      ['[ ]', 'evaluation before, after'], ['Space', 'play the masks'], ['Escape', 'back to live'],
      ['s', 'raw or averaged losses'], ['l', 'log'], ['.', 'actions'], ['c', 'compare'],
    ],
  ],
];

export function KeyHelp({ opened, onClose }: { opened: boolean; onClose: () => void }) {
  return (
    <Modal opened={opened} onClose={onClose} title="Keyboard" size="sm">
      {KEYS.map(([place, rows]) => (
        <section key={place}>
          <h2>{place}</h2>
          <table className="grid">
            <tbody>
              {rows.map(([key, what]) => (
                <tr key={key}>
                  <td width={96}>
                    <span className="kbd">{key}</span>
                  </td>
                  <td>{what}</td>
                </tr>
              ))}
            </tbody>
          </table>
          <br />
        </section>
      ))}
    </Modal>
  );
}

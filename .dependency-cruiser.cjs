/**
 * The folder rule: the data path reads left to right and a stage imports no later stage; `inspect/` does no I/O.
 * The commands stand above all stages.
 */
const stages = [
  'limits',
  'inspect',
  'files',
  'config',
  'x509',
  'tls',
  'upstream',
  'connection',
  'http',
  'telemetry',
  'gitaly-client',
  'process',
  'systemd',
  'admin',
  'serving',
];
const path = (stage) => (stage === 'limits' ? '^src/limits\\.ts$' : `^src/${stage}/`);
const roots = '^src/(cli|main|version)\\.ts$|^src/commands/';

module.exports = {
  forbidden: [
    { name: 'no-circular', severity: 'error', from: {}, to: { circular: true } },
    { name: 'no-unresolvable', severity: 'error', from: {}, to: { couldNotResolve: true } },
    ...stages.map((stage, index) => ({
      name: `${stage}-imports-no-later-stage`,
      severity: 'error',
      from: { path: path(stage) },
      to: { path: [...stages.slice(index + 1).map(path), roots].join('|') },
    })),
    {
      name: 'inspect-does-no-io',
      comment: 'Inspectors take bytes and return events; they import only themselves, limits, and pure code.',
      severity: 'error',
      from: { path: '^src/inspect/' },
      to: {
        pathNot: '^src/inspect/|^src/(limits|percent-encoding|policy/call-judge)\\.ts$|^(node:)?buffer$',
      },
    },
    {
      name: 'product-imports-no-test',
      severity: 'error',
      from: { path: '^src/' },
      to: { path: '^(test|bench)/' },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: { extensions: ['.ts', '.js'], conditionNames: ['import', 'node', 'types'] },
  },
};

/**
 * The folder rule: the data path reads left to right and a stage imports no later stage; `inspect/` does no I/O.
 * The composition root (`proxy.ts`), the commands, the demo and the making of certificates stand above all stages.
 */
const stages = [
  'limits',
  'inspect',
  'files',
  'config',
  'import',
  'tls',
  'upstream',
  'probe',
  'connection',
  'http',
  'telemetry',
  'health',
  'admin',
  'process',
  'traffic',
];
const path = (stage) => (stage === 'limits' ? '^src/limits\\.ts$' : `^src/${stage}/`);
const roots =
  '^src/(proxy|cli|main|version|reloader|state)\\.ts$|^src/commands/|^src/demo/|^src/certificates/|^src/check/';

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
      comment: 'Inspectors take bytes and return events; they import only themselves and the limits.',
      severity: 'error',
      from: { path: '^src/inspect/' },
      to: { pathNot: '^src/inspect/|^src/limits\\.ts$|^(node:)?buffer$' },
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

import { printable, printableJson } from '../../printable.js';
import type { TargetReport } from './check-target.js';
import { STEP_TITLES, type CheckStep } from './check-step.js';

const RESULTS = { passed: 'Passed', failed: 'Failed', skipped: 'Skipped' } as const;

/** The report for a person: each step as Praefect's checks are told, and below it what was found and what to do. */
export function reportText(reports: readonly TargetReport[]): string {
  return `${reports.map(targetText).join('\n\n')}\n`;
}

/** The report for a program. */
export function reportJson(reports: readonly TargetReport[]): string {
  const passed = reports.every((report) => report.passed);
  const targets = reports.map(({ title, role, passed: targetPassed, steps, endpoints }) => ({
    address: title,
    role,
    passed: targetPassed,
    steps: steps.map(stepJson),
    endpoints: endpoints.map((endpoint) => ({
      address: endpoint.title,
      passed: endpoint.steps.every(({ result }) => result !== 'failed'),
      steps: endpoint.steps.map(stepJson),
    })),
  }));
  return `${printableJson({ passed, targets }, 2)}\n`;
}

function targetText({ title, role, steps, endpoints }: TargetReport): string {
  const heading = printable(role === 'address' ? title : `${role} ${title}`);
  const hasSeveral = endpoints.length > 1;
  return [
    heading,
    ...steps.flatMap(stepText),
    ...endpoints.flatMap((endpoint) => [
      ...(hasSeveral ? ['', `${heading} at ${printable(endpoint.title)}`] : []),
      ...endpoint.steps.flatMap(stepText),
    ]),
  ].join('\n');
}

function stepText({ name, result, detail, cure, lines }: CheckStep): string[] {
  const advice = cure === undefined ? '' : result === 'passed' ? `. Warning: ${cure}` : `. Cure: ${cure}`;
  return [
    `Checking ${STEP_TITLES[name]} ... ${RESULTS[result]}`,
    `  ${printable(`${detail}${advice}`)}`,
    ...(lines ?? []).map((line) => `  ${printable(line)}`),
  ];
}

function stepJson({ name, result, detail, cure, facts }: CheckStep): object {
  return {
    name,
    result,
    detail,
    ...(cure !== undefined && (result === 'passed' ? { warning: cure } : { cure })),
    ...facts,
  };
}

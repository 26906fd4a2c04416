import { dirname, resolve } from 'node:path';
import { readText } from '../files/read-file.js';
import { buildConfiguration } from './build.js';
import type { Environment, KindOfPath, TextOfFile } from './build-context.js';
import { fileErrorReason } from './file-error.js';
import { contentFromFlags, flagKey, flagProblem, unusedTlsFlags } from './flags.js';
import type { Configuration, KeyPath, Problem } from './model.js';
import { withFiles } from './named-files.js';
import type { Locate } from './problem.js';
import { settingsSchema } from './schema.js';
import { checkShape } from './schema-problems.js';
import type { ServeFlags, ServeSource } from './serve-source.js';
import { readYaml, type YamlFile } from './yaml-file.js';

/** The result of reading a configuration. */
export interface LoadResult {
  /** The file name as given; `undefined` for flags. */
  readonly file: string | undefined;
  /** Set if and only if no problem is an error. */
  readonly configuration: Configuration | undefined;
  /**
   * The valid parts of a configuration with errors. It is used to check the files that it names, so that their problems are
   * reported together with the others, but never to run the proxy.
   */
  readonly understood: Configuration | undefined;
  /** All problems, in the order of their lines. */
  readonly problems: readonly Problem[];
  readonly locate: Locate;
}

export interface Surroundings {
  /** Relative paths of the configuration are relative to it. */
  readonly directory: string;
  readonly env: Environment;
  /** The type of a path; `readConfiguration` determines it, within a deadline. */
  readonly kindOf: KindOfPath;
  /** The text of a file that the configuration names; `readConfiguration` reads it, within a deadline. */
  readonly textOf: TextOfFile;
}

const nowhere: Locate = () => undefined;

/**
 * Reads the text of a configuration file. Never throws because of the text: every error in it is reported as a problem, and
 * all problems are found in one pass.
 */
export function loadConfiguration(
  text: string,
  options: Surroundings & { readonly file: string },
): LoadResult {
  return judgeFile(readYaml(text), options);
}

function judgeFile(yaml: YamlFile, options: Surroundings & { readonly file: string }): LoadResult {
  const locate: Locate = (key) => {
    const [top] = key;
    // A key such as SSL_CERT_FILE is an environment variable and has no line.
    const inFile =
      top === undefined || Object.hasOwn(settingsSchema.shape, top) || isObject(yaml.content, top);
    return inFile ? yaml.locate(key) : undefined;
  };
  const result = { file: options.file, locate };
  const { content } = yaml;
  if (yaml.problems.length > 0 && content === undefined) {
    return { ...result, configuration: undefined, understood: undefined, problems: yaml.problems };
  }
  if (typeof content !== 'object' || content === null || Array.isArray(content)) {
    const what =
      content === null || content === undefined ? 'the file is empty' : 'the file is not a map of keys';
    const message = `${what}: it needs at least \`listeners\`, a list of pairs of \`listen\` and \`forward\``;
    const problem: Problem = { severity: 'error', key: [], message };
    return {
      ...result,
      configuration: undefined,
      understood: undefined,
      problems: [...yaml.problems, problem],
    };
  }
  const judged = judge(content, options);
  const problems = inOrder([...yaml.problems, ...judged.problems], locate);
  const { understood } = judged;
  return { ...result, problems, understood, configuration: hasErrors(problems) ? undefined : understood };
}

/** Reads the flags of `serve`. The keys of problems and of the configuration are the names of the flags. */
export function configurationFromFlags(flags: ServeFlags, options: Surroundings): LoadResult {
  const judged = judge(contentFromFlags(flags), options, flagKey);
  const problems = [...judged.problems.map(flagProblem), ...unusedTlsFlags(flags)];
  const { understood } = judged;
  const configuration = hasErrors(problems) ? undefined : understood;
  return { file: undefined, configuration, understood, problems, locate: nowhere };
}

/**
 * Reads the configuration of `serve`, at startup and on each reload. A file that cannot be read is reported as a problem, not
 * thrown.
 */
export async function readConfiguration(source: ServeSource, env: Environment): Promise<LoadResult> {
  if (source.kind === 'flags') {
    const { flags } = source;
    return withFiles((files) => configurationFromFlags(flags, { directory: process.cwd(), env, ...files }));
  }
  const { file } = source;
  let text: string;
  try {
    text = await readText(file);
  } catch (error) {
    return unreadable(file, error);
  }
  return judgeText(text, { file, directory: dirname(resolve(file)), env });
}

/** `loadConfiguration`, including the files and paths that the configuration names. */
export function judgeText(
  text: string,
  options: Omit<Surroundings, 'kindOf' | 'textOf'> & { readonly file: string },
): Promise<LoadResult> {
  const yaml = readYaml(text);
  return withFiles((files) => judgeFile(yaml, { ...options, ...files }));
}

function unreadable(file: string, error: unknown): LoadResult {
  const message = `the configuration file cannot be read: ${fileErrorReason(error)}`;
  const problems: Problem[] = [{ severity: 'error', key: [], message }];
  return { file, configuration: undefined, understood: undefined, problems, locate: nowhere };
}

function judge(
  content: object,
  { directory, env, kindOf, textOf }: Surroundings,
  nameKey = (key: KeyPath): KeyPath => key,
): { problems: Problem[]; understood: Configuration } {
  const shape = checkShape(content);
  const problems = [...shape.problems];
  // Several listeners inherit the same top-level keys, whose problems are reported once.
  const seen = new Set<string>();
  const understood = buildConfiguration(shape.draft, {
    directory,
    env,
    kindOf,
    textOf,
    isBroken: shape.isBroken,
    nameKey,
    report(problem) {
      const identity = JSON.stringify([problem.key, problem.message]);
      if (!seen.has(identity)) problems.push(problem);
      seen.add(identity);
    },
  });
  return { problems, understood };
}

function hasErrors(problems: readonly Problem[]): boolean {
  return problems.some(({ severity }) => severity === 'error');
}

function inOrder(problems: readonly Problem[], locate: Locate): Problem[] {
  const line = (problem: Problem): number => problem.line ?? locate(problem.key) ?? Infinity;
  return problems
    .map((problem) => ({ problem, line: line(problem) }))
    .sort((one, other) => (one.line === other.line ? 0 : one.line - other.line))
    .map(({ problem }) => problem);
}

function isObject(content: unknown, key: string | number): boolean {
  return typeof content === 'object' && content !== null && Object.hasOwn(content, key);
}

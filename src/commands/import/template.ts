/** The marks of template languages: ERB, and those of Helm, gomplate, Go and Jinja. */
const MARKS: readonly (readonly [string, RegExp])[] = [
  ['ERB', /<%/u],
  ['{{ … }} or {% … %}', /\{\{|\{%/u],
];

/** A line that is not a comment and begins with a mark, or whose unquoted value does. It may add or remove settings. */
const CONTROL =
  /^[ \t]*(?:-[ \t]+)?(?:(?:[\w.-]+|"[^"\n]*"|'[^'\n]*')[ \t]*[:=][ \t]*)?(?:<%(?!=)|\{%|\{\{)/mu;

const RENDER: Readonly<Record<string, string>> = {
  // Not into a file, because it would contain the values that the template reads, such as tokens.
  ERB: 'render it on the node that uses it, for example with erb FILE | gitaly-tls-proxy configuration import (Omnibus has /opt/gitlab/embedded/bin/erb)',
};

/** How to obtain the rendered file. */
export const RENDERED =
  'import the rendered file, as the running node or pod has it (in the chart: kubectl exec POD -- cat /etc/gitaly/config.toml, ' +
  'or /srv/gitlab/config/gitlab.yml)';

/** The template language of a text; `undefined` if it is not a template. */
export function templateIn(text: string): string | undefined {
  return MARKS.find(([, mark]) => mark.test(text))?.[0];
}

/** Explains that a file is a template, and how to import it; `undefined` if it is not a template. */
export function templateHint(text: string): string | undefined {
  const language = templateIn(text.replaceAll(/^[ \t]*#.*$/gmu, ''));
  return language && `this is a template (${language}): ${RENDER[language] ?? RENDERED}`;
}

/** A template statement outside of quoted values: its line, and how to import the file. */
export function templateStatement(
  text: string,
): { readonly line: number; readonly hint: string } | undefined {
  const found = CONTROL.exec(text);
  const hint = found === null ? undefined : templateHint(found[0]);
  if (found === null || hint === undefined) return undefined;
  return { line: text.slice(0, found.index + found[0].length).split('\n').length, hint };
}

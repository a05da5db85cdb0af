//! The durable engine: one redb file, one table keyed by revision, one small table of facts.
//!
//! Reads are served from memory, so nothing but the order of revisions has to be indexed on disk.
//! Each batch is one transaction that also removes what became obsolete. Quick repair is on: a
//! file is usable at once after a crash, whatever its size.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use redb::backends::FileBackend;
use redb::{
    BackendError, Builder, Database, ReadableDatabase, ReadableTable as _, StorageBackend,
    TableDefinition, TableError, WriteTransaction,
};

use super::{Compaction, Engine, Loaded, Record};
use crate::{Error, Revision};

const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("tmc_store_log");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("tmc_store_meta");
const FORMAT_KEY: &str = "format";
const FLOOR_KEY: &str = "floor";

/// The format this build writes, and the newest it reads.
const FORMAT: u64 = 1;
/// Reads come from our own memory; this is for the pages that writes touch.
const CACHE_BYTES: usize = 8 << 20;
/// First bytes of every redb file.
const MAGIC: &[u8] = b"redb\x1a\x0a";

type Wrap = Box<dyn Fn(FileBackend) -> Box<dyn StorageBackend> + Send>;

/// A store in one file, opened by one process at a time.
pub struct Redb {
    path: PathBuf,
    /// `None` after an error, whose traces have to be removed before anything else is written.
    database: Option<Database>,
    wrap: Wrap,
    /// Holds the lock from opening to drop, whatever redb does. Dropped last.
    file: File,
}

impl std::fmt::Debug for Redb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Redb({})", self.path.display())
    }
}

impl Redb {
    /// Opens the file, which is made (mode 0600, its directory must exist) if it is not there.
    ///
    /// # Errors
    /// [`Error::InUse`], [`Error::Foreign`], [`Error::NewerFormat`], [`Error::Damaged`], or
    /// [`Error::Storage`] if the operating system refuses. An existing file is not changed then.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, Error> {
        Self::open_wrapped(path.into(), Box::new(|file| Box::new(file)))
    }

    fn open_wrapped(path: PathBuf, wrap: Wrap) -> Result<Self, Error> {
        let file = match open_existing(&path)? {
            Some(file) => file,
            None => {
                create(&path).map_err(|source| storage("cannot create", &path, source))?;
                open_existing(&path)?.ok_or_else(|| {
                    let gone = io::Error::from(ErrorKind::NotFound);
                    storage("cannot open", &path, gone)
                })?
            }
        };
        check_magic(&path, &file)?;
        lock(&path, &file)?;
        let mut engine = Self {
            path,
            database: None,
            wrap,
            file,
        };
        engine.check_before_writing()?;
        engine.database = Some(engine.connect()?);
        Ok(engine)
    }

    fn backend(&self) -> Result<Locked, Error> {
        let file = self.file.try_clone();
        let file = file.map_err(|source| storage("cannot open", &self.path, source))?;
        let file = FileBackend::new(file).map_err(|error| self.explain(error))?;
        Ok(Locked((self.wrap)(file)))
    }

    /// Refuses what is not ours while the file is open for reading only.
    fn check_before_writing(&self) -> Result<(), Error> {
        let backend = self.backend()?;
        match guard(|| format_of(&Builder::new().open_read_only_with_backend(backend)?)) {
            Ok(format) => self.check_format(format),
            // Not closed cleanly, and not by us: only a writer can repair it.
            Err(redb::Error::RepairAborted) => Ok(()),
            Err(error) => Err(self.explain(error)),
        }
    }

    fn connect(&self) -> Result<Database, Error> {
        let backend = self.backend()?;
        let opened = guard(|| {
            let database = Builder::new()
                .set_cache_size(CACHE_BYTES)
                .create_with_backend(backend)?;
            let format = format_of(&database)?;
            Ok((database, format))
        });
        let (database, format) = opened.map_err(|error| self.explain(error))?;
        self.check_format(format)?;
        Ok(database)
    }

    fn check_format(&self, format: Option<u64>) -> Result<(), Error> {
        let path = self.path.clone();
        match format {
            None => Err(Error::Foreign {
                path,
                why: "it is another program's redb file".into(),
            }),
            Some(found) if found > FORMAT => Err(Error::NewerFormat {
                path,
                found,
                supported: FORMAT,
            }),
            Some(_) => Ok(()),
        }
    }

    fn explain(&self, error: impl Into<redb::Error>) -> Error {
        let path = self.path.clone();
        match error.into() {
            redb::Error::DatabaseAlreadyOpen => Error::InUse { path },
            redb::Error::Corrupted(why) => Error::Damaged { path, why },
            redb::Error::Io(source) => storage("cannot use", &path, source),
            error => storage("cannot use", &path, error),
        }
    }

    fn damaged(&self, why: String) -> Error {
        Error::Damaged {
            path: self.path.clone(),
            why,
        }
    }

    /// Opens the file again after an error and removes what the failed batch may have left: its
    /// callers were told that it did not happen.
    fn recover(&self, last: Revision) -> Result<Database, Error> {
        let database = self.connect()?;
        let removed = remove_after(&database, last).map_err(|error| self.explain(error))?;
        tracing::info!(path = %self.path.display(), removed, "storage works again");
        Ok(database)
    }

    fn read(&self, database: &Database) -> Result<Loaded, Error> {
        let explain = |error: redb::Error| self.explain(error);
        let transaction = database.begin_read().map_err(|e| explain(e.into()))?;
        let meta = transaction
            .open_table(META)
            .map_err(|e| explain(e.into()))?;
        let floor = meta.get(FLOOR_KEY).map_err(|e| explain(e.into()))?;
        let floor = floor.map_or(0, |floor| floor.value());
        let log = transaction.open_table(LOG).map_err(|e| explain(e.into()))?;
        let mut loaded = Loaded {
            records: Vec::new(),
            revision: floor,
            floor,
        };
        for row in log.iter().map_err(|e| explain(e.into()))? {
            let (revision, bytes) = row.map_err(|e| explain(e.into()))?;
            let revision = revision.value();
            let record = decode(revision, bytes.value()).ok_or_else(|| {
                self.damaged(format!("the record of revision {revision} is torn"))
            })?;
            if revision > floor && revision != loaded.revision + 1 {
                let missing = loaded.revision + 1;
                return Err(self.damaged(format!("the record of revision {missing} is missing")));
            }
            loaded.revision = loaded.revision.max(revision);
            loaded.records.push(record);
        }
        Ok(loaded)
    }
}

impl Engine for Redb {
    fn load(&mut self) -> Result<Loaded, Error> {
        let database = match self.database.take() {
            Some(database) => database,
            None => self.connect()?,
        };
        let loaded = self.read(&database);
        self.database = Some(database);
        loaded
    }

    fn append(&mut self, batch: &[Record], compaction: Option<&Compaction>) -> Result<(), Error> {
        let Some(first) = batch.first() else {
            return Ok(());
        };
        // Taken out, so that after an error or a panic it is gone and the next call recovers.
        let database = match self.database.take() {
            Some(database) => database,
            None => self.recover(first.revision - 1)?,
        };
        write(&database, batch, compaction).map_err(|error| self.explain(error))?;
        self.database = Some(database);
        Ok(())
    }
}

/// redb panics on some kinds of damage; that must not take the process down.
fn guard<T>(open: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, redb::Error> {
    catch_unwind(AssertUnwindSafe(open))
        .unwrap_or_else(|_| Err(redb::Error::Corrupted("its structure is broken".to_owned())))
}

/// The format number, if the file is ours.
fn format_of(database: &impl ReadableDatabase) -> Result<Option<u64>, redb::Error> {
    match database.begin_read()?.open_table(META) {
        Ok(meta) => Ok(meta.get(FORMAT_KEY)?.map(|format| format.value())),
        Err(TableError::Storage(error)) => Err(error.into()),
        Err(_) => Ok(None),
    }
}

fn begin(database: &Database) -> Result<WriteTransaction, redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    Ok(transaction)
}

fn write(
    database: &Database,
    batch: &[Record],
    compaction: Option<&Compaction>,
) -> Result<(), redb::Error> {
    let transaction = begin(database)?;
    {
        let mut log = transaction.open_table(LOG)?;
        for record in batch {
            let mut place = log.insert_reserve(record.revision, encoded_len(record))?;
            encode(record, place.as_mut());
        }
        if let Some(compaction) = compaction {
            for revision in &compaction.obsolete {
                log.remove(revision)?;
            }
            let mut meta = transaction.open_table(META)?;
            // A batch that failed may have moved it further already; what it removed is gone.
            let before = meta.get(FLOOR_KEY)?.map_or(0, |floor| floor.value());
            meta.insert(FLOOR_KEY, before.max(compaction.floor))?;
        }
    }
    Ok(transaction.commit()?)
}

fn remove_after(database: &Database, last: Revision) -> Result<usize, redb::Error> {
    let transaction = begin(database)?;
    let mut removed = 0;
    {
        let mut log = transaction.open_table(LOG)?;
        log.retain_in::<u64, _>(last + 1.., |_, _| {
            removed += 1;
            false
        })?;
    }
    transaction.commit()?;
    Ok(removed)
}

// A record: flags (1 byte, bit 0 = deleted), created (8 bytes, little endian), length of the key
// (4 bytes), key, value.
const HEADER: usize = 13;

fn encoded_len(record: &Record) -> usize {
    HEADER + record.key.len() + record.value.len()
}

fn encode(record: &Record, place: &mut [u8]) {
    let key = record.key.as_bytes();
    let key_len = u32::try_from(key.len()).unwrap_or(u32::MAX);
    let parts: [&[u8]; 5] = [
        &[u8::from(record.deleted)],
        &record.created.to_le_bytes(),
        &key_len.to_le_bytes(),
        key,
        &record.value,
    ];
    let mut at = 0;
    for part in parts {
        place[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
}

fn decode(revision: Revision, bytes: &[u8]) -> Option<Record> {
    let (flags, rest) = bytes.split_first()?;
    let (created, rest) = rest.split_first_chunk::<8>()?;
    let (key_len, rest) = rest.split_first_chunk::<4>()?;
    let (key, value) = rest.split_at_checked(u32::from_le_bytes(*key_len) as usize)?;
    Some(Record {
        revision,
        created: u64::from_le_bytes(*created),
        key: Arc::from(std::str::from_utf8(key).ok()?),
        value: Bytes::copy_from_slice(value),
        deleted: flags & 1 == 1,
    })
}

fn storage(
    doing: &'static str,
    path: &Path,
    source: impl std::error::Error + Send + Sync + 'static,
) -> Error {
    Error::Storage {
        doing,
        path: path.to_owned(),
        source: Box::new(source),
    }
}

fn open_existing(path: &Path) -> Result<Option<File>, Error> {
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(storage("cannot open", path, error)),
    }
}

fn check_magic(path: &Path, mut file: &File) -> Result<(), Error> {
    let mut head = Vec::new();
    io::Read::read_to_end(
        &mut io::Read::take(&mut file, MAGIC.len() as u64),
        &mut head,
    )
    .map_err(|source| storage("cannot read", path, source))?;
    let why = match &*head {
        MAGIC => return Ok(()),
        [] => "it is empty: remove it",
        _ => "its first bytes are another program's",
    };
    Err(Error::Foreign {
        path: path.to_owned(),
        why: why.to_owned(),
    })
}

fn lock(path: &Path, file: &File) -> Result<(), Error> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(Error::InUse {
            path: path.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(storage("cannot lock", path, source)),
    }
}

/// Makes a new file under another name and moves it in place when it is complete: a crash in
/// between leaves nothing that could be mistaken for a store, or for a foreign file.
fn create(path: &Path) -> Result<(), redb::Error> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let directory = File::open(parent.unwrap_or(Path::new(".")))?;
    // Two processes may come here at once; where directories cannot be locked, they may not.
    let _ = directory.lock();
    if path.exists() {
        return Ok(());
    }
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    if let Err(error) = std::fs::remove_file(&new)
        && error.kind() != ErrorKind::NotFound
    {
        return Err(error.into());
    }
    let file = new_file().open(&new)?;
    let database = Builder::new().create_with_backend(FileBackend::new(file)?)?;
    let transaction = begin(&database)?;
    transaction.open_table(LOG)?;
    transaction.open_table(META)?.insert(FORMAT_KEY, FORMAT)?;
    transaction.commit()?;
    database.close()?;
    std::fs::rename(&new, path)?;
    directory.sync_all()?;
    Ok(())
}

fn new_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// A file whose lock is held by the engine: redb must neither take it again nor release it.
#[derive(Debug)]
struct Locked(Box<dyn StorageBackend>);

impl StorageBackend for Locked {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }

    fn try_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn try_lock_shared_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn unlock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn lock_shared_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn query_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(false)
    }
}

#[cfg(test)]
mod tests;

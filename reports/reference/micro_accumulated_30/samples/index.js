opcdSamples.index({"shard":25,"letters":{"c":"correct","w":"wrong","u":"unparsable","t":"truncated","f":"failed","s":"skipped","-":"not stored"},"readings":{},"sets":[]});
